local prefix = KEYS[1]
local name, now_ms = ARGV[1], tonumber(ARGV[2])
if redis.call('HEXISTS', prefix .. 'keys', name) == 0 then return end
local last = tonumber(redis.call('HGET', prefix .. 'keys_used', name)) or 0
if now_ms > last then redis.call('HSET', prefix .. 'keys_used', name, string.format('%.0f', now_ms)) end
