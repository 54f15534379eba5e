-- drop_operations: drop operations that a run gives up: they have lost a race, or user code has cancelled them. Rules S3.7, S4.1.
-- KEYS   1 prefix
--@argv now_ms:int child_id run_id fence operations[step_key dropped]
--       dropped: what is stored of an operation that the store does not know (msgpack)
-- Reply  {how many were dropped; 0 also when the claim is lost, hints}
-- Repeat drops none: a dropped operation is known, and waits for nothing
if not owns(run_id, child_id, fence) then return {0, {}} end
local count = 0
for step_key, dropped in operations do
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  local op = packed and cmsgpack.unpack(packed)
  -- An outcome stays, whoever has stored it, and however late the run hears of it. A step without an outcome may have been taken
  -- back just now, and is then unknown or due: no replay is to execute it.
  if not op or is_pending(op) or op.state == 'due' then
    if op then
      unlist(run_id, step_key, op, now_ms)
      op.state, op.due = 'dropped', nil
    end
    redis.call('HSET', steps_key(run_id), step_key, op and cmsgpack.pack(op) or dropped)
    count = count + 1
  end
end
return {count, hints}
