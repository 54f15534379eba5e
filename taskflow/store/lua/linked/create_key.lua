local prefix = KEYS[1]
local name, record = ARGV[1], ARGV[2]
redis.call('HSETNX', prefix .. 'keys', name, record)
return redis.call('HGET', prefix .. 'keys', name) == record and 1 or 0
