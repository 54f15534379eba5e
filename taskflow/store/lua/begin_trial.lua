-- begin_trial: a run whose next crash would be its last executes now, and no other such run in this process. Rule S9.8.
-- KEYS   1 prefix
-- ARGV   1 child_id   2 run_id   3 fence
-- Reply  1, or 0 when the claim is lost
--@include keys timer claim
if not owns(ARGV[2], ARGV[1], ARGV[3]) then return 0 end
redis.call('HSET', run_key(ARGV[2]), 'trial', 1)
return 1
