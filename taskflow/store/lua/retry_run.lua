-- retry_run: the code between the steps failed; call the handler again at `due_ms`. Rules S5.1, S5.6.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 run_id   4 fence   5 attempts so far   6 due_ms   7 error (JSON)
-- Reply  {'fenced' | 'cancel' (the claim is kept, the run shall end) | 'ok', hints}
--@include keys hint listing timer lanes claim
local now_ms, child_id, run_id = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local key = run_key(run_id)
if not owns(run_id, child_id, ARGV[4]) then return {'fenced', {}} end
local run = redis.call('HMGET', key, 'cancel', 'lane')
if run[1] then return {'cancel', {}} end
redis.call('HSET', key, 'attempt', ARGV[5], 'last_error', ARGV[7], 'status', 'waiting', 'due', ARGV[6])
redis.call('HDEL', claims_key(child_id), run_id)
release_leases(run[2], run_id, now_ms)
set_timer(tonumber(ARGV[6]), 'start' .. SEP .. run_id)
return {'ok', hints}
