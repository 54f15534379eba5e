-- trim_history: remove finished runs and events whose retention is over, with all their keys. Rule S10.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 how long (ms) events are kept when no app says so   3 limit
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
-- An event belongs to no app: the longest retention of all counts.
local kept_ms
for _, app in ipairs(redis.call('SMEMBERS', prefix .. 'apps')) do
  local retention_ms = tonumber(redis.call('HGET', app_key(app), 'retention_ms') or 0)
  kept_ms = math.max(kept_ms or 0, retention_ms)
end
local oldest_ms = tonumber(ARGV[1]) - (kept_ms or tonumber(ARGV[2]))
local events = redis.call('ZRANGEBYSCORE', prefix .. 'events', '-inf', oldest_ms, 'LIMIT', 0, limit)
for _, uid in ipairs(events) do
  redis.call('DEL', event_key(uid))
  redis.call('ZREM', prefix .. 'events', uid)
end
return math.max(#runs, #events)
