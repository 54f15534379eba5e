-- lead: make a beat the leader, or let the leader begin another term. Rule S8.1.
-- KEYS   1 prefix
--@argv now_ms:int beat_id term_ms:int
--       term_ms: how long the beat leads from now on
-- Reply  the fence, which grows each time that a beat begins to lead; 0 while another beat leads
-- Repeat gives the same fence
local term = prefix .. 'leader'
local held = redis.call('HMGET', term, 'beat_id', 'until_ms', 'fence')
-- A term that ends later than any can was begun by a clock that was ahead: it does not count.
local is_live = held[2] and tonumber(held[2]) > now_ms and tonumber(held[2]) <= now_ms + term_ms
if is_live and held[1] ~= beat_id then return 0 end
-- A beat whose own term has run out gets a new fence too: what it began in that term must not be committed any more.
local fence = is_live and tonumber(held[3]) or redis.call('HINCRBY', term, 'fence', 1)
redis.call('HSET', term, 'beat_id', beat_id, 'until_ms', now_ms + term_ms)
return fence
