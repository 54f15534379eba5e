-- abdicate: a beat that stops gives the lead away, so that another need not wait for its lease. Rule S8.1.
-- KEYS   1 prefix
-- ARGV   1 beat_id
-- Reply  1 when it was the leader
--@include keys
if redis.call('HGET', prefix .. 'leader', 'beat_id') ~= ARGV[1] then return 0 end
redis.call('HSET', prefix .. 'leader', 'until_ms', 0)
return 1
