local prefix = KEYS[1]
local version = ARGV[1]
redis.call('SETNX', prefix .. 'version', version)
return redis.call('GET', prefix .. 'version')
