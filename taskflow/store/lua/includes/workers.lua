-- workers: `workers` is a sorted set of the live workers by their last heartbeat (ms); `registered` says since when each is live.
-- A heartbeat that the network held up may come late: it must not make the worker look older than it is.
local function see_worker(worker_id, now_ms)
  if redis.call('ZADD', prefix .. 'workers', 'GT', now_ms, worker_id) == 1 then
    redis.call('HSET', prefix .. 'registered', worker_id, now_ms)
  end
end
