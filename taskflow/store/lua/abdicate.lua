-- abdicate: give the lead away when a beat stops, so that another one need not wait for the end of the term. Rule S8.1.
-- KEYS   1 prefix
--@argv beat_id
-- Reply  1 when it was the leader
if redis.call('HGET', prefix .. 'leader', 'beat_id') ~= beat_id then return 0 end
redis.call('HSET', prefix .. 'leader', 'until_ms', 0)
return 1
