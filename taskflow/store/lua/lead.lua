-- lead: become or stay the leader of the beats. Rule S8.1.
-- KEYS   1 prefix
--@argv now_ms:int beat_id term_ms:int
-- Reply  the fence, which grows with each reign, or 0 while another beat leads
local term = prefix .. 'leader'
local held = redis.call('HMGET', term, 'beat_id', 'until_ms', 'fence')
-- A term that is longer than any was begun by a clock that was ahead.
local is_live = held[2] and tonumber(held[2]) > now_ms and tonumber(held[2]) <= now_ms + term_ms
if is_live and held[1] ~= beat_id then return 0 end
-- A beat that comes back late gets a new fence too: what it began before must not be committed.
local fence = is_live and tonumber(held[3]) or redis.call('HINCRBY', term, 'fence', 1)
redis.call('HSET', term, 'beat_id', beat_id, 'until_ms', now_ms + term_ms)
return fence
