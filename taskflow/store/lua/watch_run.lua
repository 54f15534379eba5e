-- watch_run: somebody listens to a run's channel: have it told of what changes, as long as somebody does. Rule S10.7.
-- KEYS   1 prefix
--@argv run_id
-- Reply  0 when there is no such run, or 1
local run = redis.call('HMGET', run_key(run_id), 'status', 'ended', 'by')
if not run[1] then return 0 end
if not run[2] then redis.call('HSET', run_key(run_id), 'watched', 1) end
if run[1] == RUNNING then mark_claim(run_id, run[3]) end
return 1
