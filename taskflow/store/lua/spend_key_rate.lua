-- spend_key_rate: take events from what a key may send, by GCRA: `limit` in `period_ms`, so many at once too. Rule S14.4.
-- `key_rate:<name>` is "ms parts request": when the next event is due, see includes/gcra, and the last request that took some.
-- KEYS   1 prefix
--@argv name request now_ms:int events:int limit:int period_ms:int
-- Reply  0, or how long (ms) to wait until so many may be sent; then nothing is taken
-- Repeat is known by the request, and takes nothing more
local rate = prefix .. 'key_rate:' .. name
local kept = redis.call('GET', rate) or ''
if string.match(kept, '^%S+ %S+ (%S+)$') == request then return 0 end
local due_ms, parts = gcra_due(kept, now_ms)
local wait = gcra_wait(due_ms, parts, events, limit, period_ms, now_ms)
if wait > 0 then return wait end
due_ms, parts = gcra_after(due_ms, parts, events, limit, period_ms)
-- The lifetime only tidies up: a time that has passed means nothing.
redis.call('SET', rate, string.format('%.0f %.0f %s', due_ms, parts, request), 'PX', period_ms + 60000)
return 0
