-- watch_run: have a run's channel told of what changes in the run, as long as somebody listens to it. Rule S10.7.
-- KEYS   1 prefix
--@argv run_id
-- Reply  1, or 0 when there is no such run
-- Repeat writes the same again
local run = redis.call('HMGET', run_key(run_id), 'status', 'ended', 'by')
if not run[1] then return 0 end
if not run[2] then redis.call('HSET', run_key(run_id), 'watched', 1) end
if run[1] == RUNNING then mark_claim(run_id, run[3]) end
return 1
