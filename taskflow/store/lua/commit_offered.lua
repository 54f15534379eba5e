-- commit_offered: store the outcome of an attempt at a step that another process has offered. Rules S4.4, S9.4.
-- KEYS   1 prefix
--@argv now_ms:int child_id run_id step_key fence memo
--       fence: of the job. memo: the operation (msgpack): done, failed or to be retried
-- Reply  {'ok' | 'fenced' (the step is not the child's any more: nothing is stored), hints}
-- Repeat gives 'fenced'
local packed = redis.call('HGET', steps_key(run_id), step_key)
local op = packed and cmsgpack.unpack(packed)
local job = run_id .. SEP .. step_key
-- The claim ends, and its places are free, even if the step was dropped while it executed.
if redis.call('HGET', claims_key(child_id), job) == fence then
  redis.call('HDEL', claims_key(child_id), job)
  free_place(redis.call('HGET', run_key(run_id), 'lane'), job, now_ms)
end
if not op or op.state ~= 'taken' or op.by ~= child_id or tostring(op.fence) ~= fence then return {'fenced', hints} end
local ended = cmsgpack.unpack(memo)
redis.call('HDEL', run_key(run_id), 'crashes', 'crash_log', 'trial')
redis.call('HSET', steps_key(run_id), step_key, memo)
if ended.state == 'retry' then
  set_timer(ended.due, op_timer(run_id, step_key))
elseif ended.state == 'failed' or not is_join_open(run_id, step_key) then
  wake(run_id, step_key, now_ms)
end
return {'ok', hints}
