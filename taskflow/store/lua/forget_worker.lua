-- forget_worker: remove a worker that has left, or all of whose claims were handed back. Rules S2.7, S9.3.
-- KEYS   1 prefix
--@argv worker_id silent_since_ms
--       silent_since_ms: keep a worker whose last heartbeat is younger than this (ms); '' removes it in any case
-- Reply  1 when the worker is gone, 0 when it is kept
-- Repeat finds nothing to remove, and gives 1
local last_ms = redis.call('ZSCORE', prefix .. 'workers', worker_id)
if silent_since_ms ~= '' and last_ms and tonumber(last_ms) > tonumber(silent_since_ms) then return 0 end
redis.call('ZREM', prefix .. 'workers', worker_id)
redis.call('HDEL', prefix .. 'registered', worker_id)
redis.call('HDEL', prefix .. 'serving', worker_id)
redis.call('DEL', prefix .. 'worker:' .. worker_id)
end_worker(worker_id)
return 1
