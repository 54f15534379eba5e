-- singleton: who holds the key of a singleton (S7.7). `singleton:<id>` is a hash: `run` is the live run, `next` the run that starts
-- once the live one has ended.
local function singleton_key(id) return prefix .. 'singleton:' .. id end
-- A run has ended: free its key, or give it to the run that waits for it.
local function leave_singleton(id, run_id, now_ms)
  local key = singleton_key(id)
  local held = redis.call('HMGET', key, 'run', 'next')
  if held[2] == run_id then redis.call('HDEL', key, 'next') end
  if held[1] ~= run_id then return end
  local next_id = held[2]
  if not next_id then return redis.call('DEL', key) end
  redis.call('HSET', key, 'run', next_id)
  redis.call('HDEL', key, 'next')
  local run = redis.call('HMGET', run_key(next_id), 'function', 'queue', 'score', 'lane', 'created')
  redis.call('HSET', run_key(next_id), 'status', QUEUED)
  move_run(run[1], run[2] or DEFAULT_QUEUE, SCHEDULED, QUEUED)
  redis.call('HDEL', run_key(next_id), 'behind')
  make_ready(next_id, run[1], run[2] or DEFAULT_QUEUE, run[4], tonumber(run[3] or run[5]), now_ms)
end
