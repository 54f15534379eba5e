-- heartbeat: a worker host and its children are alive. Rules S9.3, S9.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 worker_id   3... child ids
-- Reply  1, or 0 when the worker was not known: it is new, or was declared dead and its claims were given away
--@include keys
local known = redis.call('ZSCORE', prefix .. 'workers', ARGV[2])
redis.call('ZADD', prefix .. 'workers', ARGV[1], ARGV[2])
for i = 3, #ARGV do redis.call('SADD', prefix .. 'worker:' .. ARGV[2], ARGV[i]) end
return known and 1 or 0
