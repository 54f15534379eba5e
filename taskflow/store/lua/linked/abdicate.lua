local prefix = KEYS[1]
local beat_id = ARGV[1]
if redis.call('HGET', prefix .. 'leader', 'beat_id') ~= beat_id then return 0 end
redis.call('HSET', prefix .. 'leader', 'until_ms', 0)
return 1
