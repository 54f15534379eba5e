-- trim_history: remove finished runs and events whose retention is over, with all their keys. Rule S10.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 events received before this go (ms)   3 limit
-- Reply  how many entries were removed; `limit` or more means that there may be others
--@include keys
local limit = tonumber(ARGV[3])
local runs = redis.call('ZRANGEBYSCORE', prefix .. 'expiry', '-inf', ARGV[1], 'LIMIT', 0, limit)
for _, run_id in ipairs(runs) do
  local fn = redis.call('HGET', run_key(run_id), 'function')
  if fn then redis.call('ZREM', runs_key(fn), run_id) end
  redis.call('DEL', run_key(run_id), steps_key(run_id))
  redis.call('ZREM', prefix .. 'expiry', run_id)
end
local events = redis.call('ZRANGEBYSCORE', prefix .. 'events', '-inf', ARGV[2], 'LIMIT', 0, limit)
for _, uid in ipairs(events) do
  redis.call('DEL', event_key(uid))
  redis.call('ZREM', prefix .. 'events', uid)
end
return math.max(#runs, #events)
