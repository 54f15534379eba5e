-- settle_webhook: note what came of a request to a webhook. Rule S14.7.
-- KEYS   1 prefix
--@argv id outcome events error
--       outcome, events, error: see keep_webhook
-- Reply  1, or 0 if the request is not kept any more
-- Repeat changes nothing
local key = prefix .. 'webhook:' .. id
if redis.call('EXISTS', key) == 0 then return 0 end
redis.call('HSET', key, 'outcome', outcome, 'events', events, 'error', error)
return 1
