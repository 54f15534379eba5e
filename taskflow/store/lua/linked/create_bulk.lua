local prefix = KEYS[1]
local now_ms, bulk_id, asked, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local key = (prefix .. 'bulk:' .. bulk_id)
if redis.call('EXISTS', key) == 1 then return 0 end
redis.call('HSET', key, 'asked', asked, 'status', 'running', 'turn', 0, 'looked', 0, 'done', 0, 'failed', 0)
redis.call('ZADD', prefix .. 'bulks', now_ms, bulk_id)
redis.call('SADD', prefix .. 'bulks_open', bulk_id)
local extra = redis.call('ZCARD', prefix .. 'bulks') - most
for _, old in ipairs(extra > 0 and redis.call('ZRANGE', prefix .. 'bulks', 0, extra - 1) or {}) do
  if redis.call('SISMEMBER', prefix .. 'bulks_open', old) == 0 then
    redis.call('DEL', (prefix .. 'bulk:' .. old))
    redis.call('ZREM', prefix .. 'bulks', old)
  end
end
return 1
