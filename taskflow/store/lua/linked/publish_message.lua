local prefix = KEYS[1]
local channel, topic, data, run_id, uid, known_ms, keep, keep_ms, now_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local COUNT_KEPT_MS = 86400000
local known = prefix .. 'published:' .. uid
local first = redis.call('GET', known)
if first then return first end
local stream, count = prefix .. 'channel:' .. channel, prefix .. 'channel_count:' .. channel
redis.call('SET', count, string.format('%.0f', now_ms * 1000), 'NX')
local id = string.format('%.0f', redis.call('INCR', count))
redis.call('XADD', stream, 'MAXLEN', keep, id .. '-0', 't', topic, 'd', data, 'a', now_ms, 'r', run_id)
redis.call('PEXPIRE', stream, keep_ms)
redis.call('PEXPIRE', count, keep_ms + COUNT_KEPT_MS)
redis.call('SET', known, id, 'PX', known_ms)
redis.call('PUBLISH', stream, id)
return id
