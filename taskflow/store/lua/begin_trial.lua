-- begin_trial: note that a run is on trial: its next crash would be its last, so no other such run executes in its process.
-- Rule S9.8.
-- KEYS   1 prefix
--@argv child_id run_id fence
-- Reply  1, or 0 when the claim is lost
-- Repeat writes the same again
if not owns(run_id, child_id, fence) then return 0 end
redis.call('HSET', run_key(run_id), 'trial', 1)
return 1
