-- lead: become or stay the leader of the beats. Rule S8.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 beat_id   3 lease_ms
-- Reply  the fence, which grows with each reign, or 0 while another beat leads
--@include keys
local now_ms, beat_id, lease_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local lease = prefix .. 'leader'
local held = redis.call('HMGET', lease, 'beat_id', 'until_ms', 'fence')
local is_live = held[2] and tonumber(held[2]) > now_ms
if is_live and held[1] ~= beat_id then return 0 end
-- A beat that comes back late gets a new fence too: what it began before must not be committed.
local fence = is_live and tonumber(held[3]) or redis.call('HINCRBY', lease, 'fence', 1)
redis.call('HSET', lease, 'beat_id', beat_id, 'until_ms', now_ms + lease_ms)
return fence
