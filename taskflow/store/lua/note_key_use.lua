-- note_key_use: note when a key was used last, unless it was revoked meanwhile. Rule S14.4.
-- KEYS   1 prefix
--@argv name now_ms:int
-- Reply  nothing
-- Repeat writes the same again
if redis.call('HEXISTS', prefix .. 'keys', name) == 0 then return end
local last = tonumber(redis.call('HGET', prefix .. 'keys_used', name)) or 0
if now_ms > last then redis.call('HSET', prefix .. 'keys_used', name, string.format('%.0f', now_ms)) end
