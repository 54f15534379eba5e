-- fetch_resolved: read the operations for which a run waits in its process. Rule S4.3.
-- KEYS   1 prefix
--@argv child_id run_id fence step_keys[]
-- Reply  {'fenced' | 'cancel' | 'ok', the operations in the order asked for}
local run = redis.call('HMGET', run_key(run_id), 'by', 'fence', 'cancel', 'status')
if run[1] ~= child_id or run[2] ~= fence or run[4] ~= RUNNING then return {'fenced', {}} end
redis.call('HDEL', run_key(run_id), 'dirty')
local ops = {}
for step_key in step_keys do ops[#ops + 1] = redis.call('HGET', steps_key(run_id), step_key) end
return {run[3] and 'cancel' or 'ok', ops}
