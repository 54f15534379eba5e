-- scheduled: make a run ready that has waited for its time, its debounce or its batch (S1.4, S5.6, S7.5, S7.6). The field `gathers`
-- is the key, without the prefix, that leads further events to the run until then.
local function start_scheduled(run_id, now_ms)
  local key = run_key(run_id)
  local run = redis.call('HMGET', key, 'status', 'function', 'queue', 'score', 'lane', 'gathers', 'single', 'single_mode',
    'start_timeout_ms', 'created', 'watched')
  if run[1] ~= SCHEDULED and run[1] ~= WAITING then return end
  if run[6] then
    redis.call('DEL', prefix .. run[6])
    clear_timer('start' .. SEP .. run_id)
    -- A full batch starts before its time.
    if run[9] then set_timer(now_ms + tonumber(run[9]), 'start_timeout' .. SEP .. run_id) end
  end
  redis.call('HDEL', key, 'due', 'gathers')
  if run[7] and run[1] == SCHEDULED then
    local single = {run[7], run[8]}
    local refusal = singleton_refusal(run[2], single, run_id)
    if refusal then return skip_scheduled(run_id, refusal, now_ms) end
    local behind = enter_singleton(single, run_id, now_ms)
    if behind then return redis.call('HSET', key, 'behind', behind) end
  end
  redis.call('HSET', key, 'status', QUEUED)
  move_run(run[2], run[3] or DEFAULT_QUEUE, run[1], QUEUED)
  make_ready(run_id, run[2], run[3] or DEFAULT_QUEUE, run[5], tonumber(run[4] or run[10]), now_ms)
  if run[11] then tell_watchers(run_id) end
end
