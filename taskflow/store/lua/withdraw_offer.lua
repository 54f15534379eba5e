-- withdraw_offer: a run takes back a step that it offered: it found a slot itself. Rule S4.4.
-- KEYS   1 prefix
--@argv now_ms:int child_id run_id fence step_key
-- Reply  {1, or 0 when somebody has taken the step, or the claim is lost, hints}
-- Nobody but the run's owner removes the operation: when it is not there, this is a repeat after a lost reply, and the step is
-- still the owner's. One with failed attempts stays, so that they count should the owner die now; a repeat is told 0 then, and
-- finds the step due.
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
