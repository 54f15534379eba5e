-- forget_worker: a worker left, or all that it held was handed back. Rule S9.3.
-- KEYS   1 prefix
-- ARGV   1 worker_id   2 only when its last heartbeat is not younger than this (ms), or '' for always
-- Reply  1 when it is gone
--@include keys
local last_ms = redis.call('ZSCORE', prefix .. 'workers', ARGV[1])
if ARGV[2] ~= '' and last_ms and tonumber(last_ms) > tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', prefix .. 'workers', ARGV[1])
redis.call('HDEL', prefix .. 'registered', ARGV[1])
redis.call('HDEL', prefix .. 'serving', ARGV[1])
redis.call('DEL', prefix .. 'worker:' .. ARGV[1])
return 1
