-- fetch_resolved: read operations of a run whose process waits for them. Rule S4.3.
-- KEYS   1 prefix
--@argv child_id run_id fence is_all:flag step_keys[]
--       is_all: the run waits for no others
-- Reply  {'fenced' (the claim is lost) | 'cancel' (the run shall end) | 'ok', the operations (msgpack) in the order of step_keys}
-- Repeat reads again. The mark `dirty` goes with the first call that reads all: an operation that is resolved after it sets the
--        mark anew
local run = redis.call('HMGET', run_key(run_id), 'by', 'fence', 'cancel', 'status')
if run[1] ~= child_id or run[2] ~= fence or run[4] ~= RUNNING then return {'fenced', {}} end
-- Else another operation may be resolved, and the message that says so lost.
if is_all then redis.call('HDEL', run_key(run_id), 'dirty') end
local ops = {}
for step_key in step_keys do ops[#ops + 1] = redis.call('HGET', steps_key(run_id), step_key) end
return {run[3] and 'cancel' or 'ok', ops}
