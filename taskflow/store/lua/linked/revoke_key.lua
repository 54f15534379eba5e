local prefix = KEYS[1]
local name = ARGV[1]
redis.call('HDEL', prefix .. 'keys_used', name)
redis.call('DEL', prefix .. 'key_rate:' .. name)
return redis.call('HDEL', prefix .. 'keys', name)
