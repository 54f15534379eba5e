-- ready: put a run on its function's ready set, oldest first (S7.2). Needs keys, hint.
-- silent: ask for no work message, since the caller can't send one.
local function make_ready(run_id, fn, queue, score, now_ms, silent)
  local app = app_of(fn)
  redis.call('ZADD', ready_key(fn), score, run_id)
  -- The queue's index holds each function with the score of its best run.
  if redis.call('ZADD', queue_key(app, queue), 'LT', score, fn) == 1 then
    redis.call('SADD', prefix .. 'queues', app .. SEP .. queue)
  end
  if not silent then hint(app, queue, now_ms) end
end
