-- heartbeat: a worker host and its children are alive. Rules S9.3, S9.4, S10.5.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 worker_id   3... child ids, and what they serve: app SEP queue SEP queue ...
-- Reply  when the worker was registered (ms): by this heartbeat, when it is new or was declared dead and its claims were given away
--@include keys
-- A heartbeat that the network held up may come late: it must not make the worker look older than it is.
if redis.call('ZADD', prefix .. 'workers', 'GT', ARGV[1], ARGV[2]) == 1 then
  redis.call('HSET', prefix .. 'registered', ARGV[2], ARGV[1])
end
for i = 3, #ARGV do
  if string.find(ARGV[i], SEP, 1, true) then redis.call('HSET', prefix .. 'serving', ARGV[2], ARGV[i])
  else
    redis.call('SADD', prefix .. 'worker:' .. ARGV[2], ARGV[i])
    -- It was taken for dead and is back. A heartbeat that was sent before that says nothing.
    local buried_ms = redis.call('ZSCORE', prefix .. 'graves', ARGV[i])
    if buried_ms and tonumber(buried_ms) < tonumber(ARGV[1]) then redis.call('ZREM', prefix .. 'graves', ARGV[i]) end
  end
end
return tonumber(redis.call('HGET', prefix .. 'registered', ARGV[2]) or 0)
