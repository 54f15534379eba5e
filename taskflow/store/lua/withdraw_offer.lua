-- withdraw_offer: take back a step that a run has offered to other processes: the run has found a slot for it. Rule S4.4.
-- KEYS   1 prefix
--@argv now_ms:int child_id run_id fence step_key
-- Reply  {1, or 0 when another process has taken the step or the claim is lost, hints}
-- Repeat gives 1: only the owner of the run removes the operation, so when it is gone the step is the owner's. An operation with
--        failed attempts stays, so that they count if the owner dies now: its repeat gives 0, and the owner then finds the step due
if not owns(run_id, child_id, fence) then return {0, {}} end
local packed = redis.call('HGET', steps_key(run_id), step_key)
if not packed then return {1, {}} end
local op = cmsgpack.unpack(packed)
if op.state ~= 'offer' then return {0, {}} end
unlist(run_id, step_key, op, now_ms)
if op.attempts then
  op.state = 'due'
  redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
else
  redis.call('HDEL', steps_key(run_id), step_key)
end
return {1, hints}
