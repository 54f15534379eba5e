-- keep_webhook: keep a request to a webhook, so that it can be looked at and replayed. Rule S14.7.
-- `webhook:<id>` is a hash: webhook (app/name), at (ms), url, headers and query (JSON), body, delivery, outcome ('received' |
-- 'sent' | 'ignored' | 'failed'), events (their ids, as JSON), error. `webhooks` is a sorted set of id SEP bytes by `at`,
-- `webhook_bytes` the sum of these bytes.
-- KEYS   1 prefix
--@argv now_ms:int id webhook url headers query body delivery size:int kept_ms:int most:int most_bytes:int
--       size: the bytes that it counts for. kept_ms: how long a request is kept. most, most_bytes: how many, and how much of
--       them; the oldest go first
-- Reply  1
-- Repeat changes nothing
local function webhook_key(request_id) return prefix .. 'webhook:' .. request_id end
local function forget(member)
  local request_id, bytes = string.match(member, '^(.-)' .. SEP .. '(%d+)$')
  redis.call('DEL', webhook_key(request_id))
  redis.call('ZREM', prefix .. 'webhooks', member)
  return redis.call('DECRBY', prefix .. 'webhook_bytes', bytes)
end
if redis.call('EXISTS', webhook_key(id)) == 1 then return 1 end
redis.call('HSET', webhook_key(id), 'webhook', webhook, 'at', now_ms, 'url', url, 'headers', headers, 'query', query, 'body', body,
  'delivery', delivery, 'outcome', 'received')
-- The lifetime only tidies up.
redis.call('PEXPIRE', webhook_key(id), kept_ms)
redis.call('ZADD', prefix .. 'webhooks', now_ms, id .. SEP .. size)
local bytes = redis.call('INCRBY', prefix .. 'webhook_bytes', size)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'webhooks', '-inf', now_ms - kept_ms, 'LIMIT', 0, 100)) do
  bytes = forget(member)
end
local count = redis.call('ZCARD', prefix .. 'webhooks')
while count > 1 and (count > most or bytes > most_bytes) do
  bytes = forget(redis.call('ZRANGE', prefix .. 'webhooks', 0, 0)[1])
  count = count - 1
end
return 1
