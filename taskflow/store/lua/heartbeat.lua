-- heartbeat: a worker host and its children are alive. Rules S9.3, S9.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 worker_id   3... child ids
-- Reply  when the worker was registered (ms): by this heartbeat, when it is new or was declared dead and its claims were given away
--@include keys
-- A heartbeat that the network held up may come late: it must not make the worker look older than it is.
if redis.call('ZADD', prefix .. 'workers', 'GT', ARGV[1], ARGV[2]) == 1 then
  redis.call('HSET', prefix .. 'registered', ARGV[2], ARGV[1])
end
for i = 3, #ARGV do redis.call('SADD', prefix .. 'worker:' .. ARGV[2], ARGV[i]) end
return tonumber(redis.call('HGET', prefix .. 'registered', ARGV[2]) or 0)
