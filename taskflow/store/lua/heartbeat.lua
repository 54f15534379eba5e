-- heartbeat: note that a worker and its children are alive. Rules S9.3, S9.4, S10.5.
-- KEYS   1 prefix
--@argv now_ms worker_id serving child_ids[]
--       serving: the app and the queues that the worker serves, as app SEP queue SEP queue ...; '' leaves what is known
-- Reply  when (ms) the worker was registered: by this heartbeat, if the worker is new, or was declared dead and its claims were
--        given to others
-- Repeat writes the same again
see_worker(worker_id, now_ms)
if serving ~= '' then redis.call('HSET', prefix .. 'serving', worker_id, serving) end
for child_id in child_ids do
  redis.call('SADD', prefix .. 'worker:' .. worker_id, child_id)
  -- The child was taken for dead, and is back. A heartbeat that was sent before it was taken for dead proves nothing.
  local buried_ms = redis.call('ZSCORE', prefix .. 'graves', child_id)
  if buried_ms and tonumber(buried_ms) < tonumber(now_ms) then redis.call('ZREM', prefix .. 'graves', child_id) end
end
return tonumber(redis.call('HGET', prefix .. 'registered', worker_id) or 0)
