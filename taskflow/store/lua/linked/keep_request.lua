local prefix = KEYS[1]
local key, fingerprint, uid = ARGV[1], ARGV[2], ARGV[3]
local KEPT_MS = 3600000
local request = prefix .. 'request:' .. key
redis.call('SET', request, uid .. '\31' .. fingerprint, 'NX', 'PX', KEPT_MS)
return {string.match(redis.call('GET', request), '^(.-)' .. '\31' .. '(.*)$')}
