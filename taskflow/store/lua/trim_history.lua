-- trim_history: remove finished runs and events whose retention is over, with all their keys. Rule S10.1.
-- KEYS   1 prefix
--@argv now_ms:int event_retention_ms:int limit:int
--       event_retention_ms: how long events are kept when no app says so
-- Reply  how many entries were removed; `limit` or more means that there may be others
local runs = redis.call('ZRANGEBYSCORE', prefix .. 'expiry', '-inf', now_ms, 'LIMIT', 0, limit)
-- By function; a command for many of them costs a third of one for each.
local run_ids, keys = {}, {}
for _, run_id in ipairs(runs) do
  local fn = redis.call('HGET', run_key(run_id), 'function')
  if fn then
    run_ids[fn] = run_ids[fn] or {}
    table.insert(run_ids[fn], run_id)
  end
  for _, key in ipairs({run_key(run_id), steps_key(run_id), batch_key(run_id)}) do keys[#keys + 1] = key end
end
if runs[1] then
  for fn, ids in pairs(run_ids) do on_pages('ZREM', runs_key(fn), ids) end
  on_keys('DEL', keys)
  on_pages('ZREM', prefix .. 'expiry', runs)
end
-- An event belongs to no app: the longest retention of all counts.
local kept_ms
for _, app in ipairs(redis.call('SMEMBERS', prefix .. 'apps')) do
  local retention_ms = tonumber(redis.call('HGET', app_key(app), 'retention_ms') or 0)
  kept_ms = math.max(kept_ms or 0, retention_ms)
end
local oldest_ms = now_ms - (kept_ms or event_retention_ms)
local removed, events = 0, {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'event_names', '-inf', oldest_ms, 'LIMIT', 0, limit)) do
  local key, next_seq, next_ms = events_key(name), nil, nil
  for _, entry in ipairs(redis.call('XRANGE', key, '-', '+', 'COUNT', limit - removed + 1)) do
    local uid, seq, received_ms = split_listed(entry)
    if received_ms > oldest_ms or removed >= limit then
      next_seq, next_ms = seq, received_ms
      break
    end
    events[#events + 1] = event_key(uid)
    removed = removed + 1
  end
  if next_seq then
    redis.call('XTRIM', key, 'MINID', next_seq)
    redis.call('ZADD', prefix .. 'event_names', next_ms, name)
  else
    redis.call('DEL', key)
    redis.call('ZREM', prefix .. 'event_names', name)
  end
  if removed >= limit then break end
end
on_keys('DEL', events)
return math.max(#runs, removed)
