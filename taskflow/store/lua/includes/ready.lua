-- ready: put a run on its function's ready set, oldest first (S7.2). Needs keys, hint.
-- silent: the caller can't send a work message.
local function make_ready(run_id, fn, queue, score, now_ms, silent)
  local app = app_of(fn)
  redis.call('ZADD', ready_key(fn), score, run_id)
  -- The queue's index holds each function with the score of its best run.
  if redis.call('ZADD', queue_key(app, queue), 'LT', score, fn) == 1 then
    redis.call('SADD', prefix .. 'queues', app .. SEP .. queue)
  end
  if silent then
    -- The reaper shall send a message in its next turn, whatever was sent before (S9.3).
    redis.call('HDEL', prefix .. 'hints', app .. SEP .. queue)
  else
    hint(app, queue, now_ms)
  end
end
