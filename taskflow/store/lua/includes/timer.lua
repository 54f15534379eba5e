-- timer: set and clear entries of the timers. A member is its kind and what it is about:
--   op SEP run_id SEP step_key       a sleep, a retry or the timeout of a wait falls due
--   start SEP run_id                 a run whose start was delayed
--   start_timeout SEP run_id         too long queued (S6.3)
--   finish_timeout SEP run_id        too long since the first attempt (S6.3)
local function set_timer(due_ms, member)
  local timers = prefix .. 'timers'
  local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  redis.call('ZADD', timers, due_ms, member)
  -- Beat sleeps until the first timer: wake it when this one is earlier. One nudge in the list is enough.
  if (not first[2] or due_ms < tonumber(first[2])) and redis.call('LLEN', prefix .. 'nudge') == 0 then
    redis.call('LPUSH', prefix .. 'nudge', due_ms)
  end
end
local function clear_timer(member) redis.call('ZREM', prefix .. 'timers', member) end
local function op_timer(run_id, step_key) return 'op' .. SEP .. run_id .. SEP .. step_key end
