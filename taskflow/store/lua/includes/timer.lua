-- timer: set and clear timers. A timer's member in the sorted set says its kind and what it is for:
--   op SEP run_id SEP step_key       a sleep, a retry or the timeout of a wait is over
--   start SEP run_id                 a run is to start that was delayed, or an attempt of its handler
--   start_timeout SEP run_id         the run was queued for too long (S6.3)
--   finish_timeout SEP run_id        the run was not finished in time since its start (S6.3)
--   lane SEP queue SEP fn SEP lane   the throttle of a lane opens (S7.3)
local function set_timer(due_ms, member)
  local timers = prefix .. 'timers'
  local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  redis.call('ZADD', timers, due_ms, member)
  -- Beat sleeps until the first timer: it is woken when this timer is earlier. One nudge in the list is enough.
  if (not first[2] or due_ms < tonumber(first[2])) and redis.call('LLEN', prefix .. 'nudge') == 0 then
    redis.call('LPUSH', prefix .. 'nudge', due_ms)
  end
end
local function clear_timer(member) redis.call('ZREM', prefix .. 'timers', member) end
local function op_timer(run_id, step_key) return 'op' .. SEP .. run_id .. SEP .. step_key end
