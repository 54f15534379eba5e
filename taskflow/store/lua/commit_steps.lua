-- commit_step: store the outcome of an attempt that ended. Rules S4.1, S5.1, S9.4.
-- KEYS   1 prefix
-- ARGV   1 child_id   2 run_id   3 fence   4 '1' when a step completed   5... step_key, memo (msgpack), ...:
--        the outcome, and earlier operations whose place in the order of outcomes became known
-- Reply  'fenced' when the claim is lost, 'cancel' when it is stored and the run shall end, else 'ok'
--@include keys
local run = redis.call('HMGET', run_key(ARGV[2]), 'by', 'fence', 'cancel', 'crashes', 'attempt', 'status')
if run[1] ~= ARGV[1] or run[2] ~= ARGV[3] or run[6] ~= 'running' then return 'fenced' end
redis.call('HSET', steps_key(ARGV[2]), unpack(ARGV, 5))
-- Progress: the next crash is the first under another step (S9.8), and the code between steps may fail anew (S5.1).
if run[4] then redis.call('HDEL', run_key(ARGV[2]), 'crashes', 'crash_log', 'trial') end
if ARGV[4] == '1' and run[5] then redis.call('HDEL', run_key(ARGV[2]), 'attempt') end
return run[3] and 'cancel' or 'ok'
