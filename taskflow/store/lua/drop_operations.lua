-- drop_operations: drop pending operations of a run, which have lost a race. Rule S3.7.
-- KEYS   1 prefix
--@argv now_ms:int child_id run_id fence step_keys[]
-- Reply  {how many were dropped; 0 also when the claim is lost, hints}
-- Repeat drops none: a dropped operation is not pending
if not owns(run_id, child_id, fence) then return {0, {}} end
local dropped = 0
for step_key in step_keys do
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  local op = packed and cmsgpack.unpack(packed)
  if op and is_pending(op) then
    unlist(run_id, step_key, op, now_ms)
    op.state, op.due = 'dropped', nil
    redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
    dropped = dropped + 1
  end
end
return {dropped, hints}
