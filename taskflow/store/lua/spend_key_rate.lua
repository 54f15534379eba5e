-- spend_key_rate: take events from what a key may send, by GCRA: `limit` in `period_ms`, so many at once too. Rule S14.4.
-- `key_rate:<name>` is "due spent": when (ms) nothing of the rate is in use any more, and the last request that took some of it.
-- KEYS   1 prefix
--@argv name request now_ms:int events:int limit:int period_ms:int
-- Reply  0, or how long (ms) to wait until so many may be sent; then nothing is taken
-- Repeat is known by the request, and takes nothing more
local rate = prefix .. 'key_rate:' .. name
local due, spent = string.match(redis.call('GET', rate) or '', '^(%S+) (%S+)$')
if spent == request then return 0 end
local after = math.max(tonumber(due) or 0, now_ms) + events * period_ms / limit
local wait = after - now_ms - period_ms
if wait > 0 then return math.ceil(wait) end
-- The lifetime only tidies up: a time that has passed means nothing.
redis.call('SET', rate, string.format('%.3f %s', after, request), 'PX', period_ms + 60000)
return 0
