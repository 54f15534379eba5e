-- wake: let a run go on, since this operation of it is resolved.
local function wake(run_id, step_key, now_ms)
  local run = redis.call('HMGET', run_key(run_id), 'status', 'function', 'queue', 'score', 'by', 'due', 'lane', 'created',
    'watched')
  if run[9] then tell_watchers(run_id) end
  if run[1] == WAITING then
    -- The handler itself is to be called again at `due`, and not before.
    if run[6] then return end
    redis.call('HSET', run_key(run_id), 'status', QUEUED)
    move_run(run[2], run[3] or DEFAULT_QUEUE, WAITING, QUEUED)
    make_ready(run_id, run[2], run[3] or DEFAULT_QUEUE, run[7], tonumber(run[4] or run[8]), now_ms)
  elseif run[1] == RUNNING then
    -- The mark `dirty` decides: park_run suspends no run that has it. The message only makes the owner look sooner.
    redis.call('HSET', run_key(run_id), 'dirty', 1)
    redis.call('PUBLISH', child_channel(run[5]), 'resolved' .. SEP .. run_id .. SEP .. step_key)
  end
end
