local prefix = KEYS[1]
local now_ms, id, webhook, url, headers, query, body, delivery, size, kept_ms, most, most_bytes = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local function webhook_key(request_id) return prefix .. 'webhook:' .. request_id end
local function forget(member)
  local request_id, bytes = string.match(member, '^(.-)' .. '\31' .. '(%d+)$')
  redis.call('DEL', webhook_key(request_id))
  redis.call('ZREM', prefix .. 'webhooks', member)
  return redis.call('DECRBY', prefix .. 'webhook_bytes', bytes)
end
if redis.call('EXISTS', webhook_key(id)) == 1 then return 1 end
redis.call('HSET', webhook_key(id), 'webhook', webhook, 'at', now_ms, 'url', url, 'headers', headers, 'query', query, 'body', body,
  'delivery', delivery, 'outcome', 'received')
redis.call('PEXPIRE', webhook_key(id), kept_ms)
redis.call('ZADD', prefix .. 'webhooks', now_ms, id .. '\31' .. size)
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
