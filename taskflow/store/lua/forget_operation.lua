-- forget_operation: remove an operation that does not count any more: the code calls another tool by its key now, or calls again
-- what was dropped. Rules S3.7, S4.5.
-- KEYS   1 prefix
--@argv now_ms:int child_id run_id fence step_key kind
--       kind: of the operation that the run makes instead
-- Reply  {'fenced' (the claim is lost) | 'ok', hints}
-- Repeat may come late: an operation of that kind stays, unless it was dropped
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
local packed = redis.call('HGET', steps_key(run_id), step_key)
if not packed then return {'ok', {}} end
local op = cmsgpack.unpack(packed)
-- A memo without a kind is of a step that is done.
if (op.kind or 'step') == kind and op.state ~= 'dropped' then return {'ok', {}} end
if is_pending(op) then unlist(run_id, step_key, op, now_ms) end
redis.call('HDEL', steps_key(run_id), step_key)
return {'ok', hints}
