local prefix = KEYS[1]
local version = ARGV[1]
local known = redis.call('GET', prefix .. 'version')
if known then return known end
redis.call('SETNX', prefix .. 'version', version)
return version
