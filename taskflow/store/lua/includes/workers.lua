-- workers: `workers` is a sorted set of the live workers by their last heartbeat (ms); `registered` says since when each is live.
-- A heartbeat that the network held up may come late: it must not make the worker look older than it is.
local function see_worker(worker_id, now_ms)
  if redis.call('ZADD', prefix .. 'workers', 'GT', now_ms, worker_id) == 1 then
    redis.call('HSET', prefix .. 'registered', worker_id, now_ms)
  end
end
local function worker_of(child_id) return string.match(child_id, '^(.*):') end
-- `worker:<id>` is the set of the children of a worker. Who claims stands there, so that the reaper finds the claims: a child that
-- does not, in a store that was emptied or since it had ended, is noted with its worker at once. Should the host die before its
-- next heartbeat, nobody else would name the child (S9.2).
local function note_claimant(child_id, now_ms)
  local worker_id = worker_of(child_id)
  if redis.call('SADD', prefix .. 'worker:' .. worker_id, child_id) == 1 then see_worker(worker_id, now_ms) end
end
