local prefix = KEYS[1]
local worker_id, silent_since_ms = ARGV[1], ARGV[2]
local last_ms = redis.call('ZSCORE', prefix .. 'workers', worker_id)
if silent_since_ms ~= '' and last_ms and tonumber(last_ms) > tonumber(silent_since_ms) then return 0 end
redis.call('ZREM', prefix .. 'workers', worker_id)
redis.call('HDEL', prefix .. 'registered', worker_id)
redis.call('HDEL', prefix .. 'serving', worker_id)
redis.call('DEL', prefix .. 'worker:' .. worker_id)
return 1
