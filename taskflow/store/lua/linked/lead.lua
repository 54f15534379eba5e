local prefix = KEYS[1]
local now_ms, beat_id, term_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local term = prefix .. 'leader'
local held = redis.call('HMGET', term, 'beat_id', 'until_ms', 'fence')
local is_live = held[2] and tonumber(held[2]) > now_ms and tonumber(held[2]) <= now_ms + term_ms
if is_live and held[1] ~= beat_id then return 0 end
local fence = is_live and tonumber(held[3]) or redis.call('HINCRBY', term, 'fence', 1)
redis.call('HSET', term, 'beat_id', beat_id, 'until_ms', now_ms + term_ms)
return fence
