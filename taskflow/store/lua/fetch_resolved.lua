-- fetch_resolved: what became of the operations that a resident run waits for. Rule S4.3.
-- KEYS   1 prefix
-- ARGV   1 child_id   2 run_id   3 fence   4... step keys
-- Reply  {'fenced' | 'cancel' | 'ok', the operations in the order asked for}
--@include keys
local run = redis.call('HMGET', run_key(ARGV[2]), 'by', 'fence', 'cancel', 'status')
if run[1] ~= ARGV[1] or run[2] ~= ARGV[3] or run[4] ~= 'running' then return {'fenced', {}} end
redis.call('HDEL', run_key(ARGV[2]), 'dirty')
local ops = {}
for i = 4, #ARGV do ops[#ops + 1] = redis.call('HGET', steps_key(ARGV[2]), ARGV[i]) end
return {run[3] and 'cancel' or 'ok', ops}
