local prefix = KEYS[1]
local function see_worker(worker_id, now_ms)
  if redis.call('ZADD', prefix .. 'workers', 'GT', now_ms, worker_id) == 1 then
    redis.call('HSET', prefix .. 'registered', worker_id, now_ms)
  end
end
local now_ms, worker_id, serving = ARGV[1], ARGV[2], ARGV[3]
see_worker(worker_id, now_ms)
if serving ~= '' then redis.call('HSET', prefix .. 'serving', worker_id, serving) end
for child_ids_at = 4, #ARGV do
local child_id = ARGV[child_ids_at]

  redis.call('SADD', prefix .. 'worker:' .. worker_id, child_id)
  local buried_ms = redis.call('ZSCORE', prefix .. 'graves', child_id)
  if buried_ms and tonumber(buried_ms) < tonumber(now_ms) then redis.call('ZREM', prefix .. 'graves', child_id) end
end
return tonumber(redis.call('HGET', prefix .. 'registered', worker_id) or 0)
