-- trim_history: remove runs and events whose retention is over, with all their keys. Rule S10.1.
-- KEYS   1 prefix
--@argv now_ms:int event_retention_ms:int limit:int
--       event_retention_ms: how long events are kept while no app has registered. limit: remove so many runs, and so many events,
--       at most
-- Reply  how many runs or events were removed, whichever is more; `limit` means that others may be left
-- Repeat removes those that are left
-- An event stays for a tenth of the retention longer, at most a minute: by then most runs that it started are gone, and need no
-- copy of its text.
local MAX_EVENT_SLACK_MS = 60000
local function take_expired()
  local runs = {}
  for _, span in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'expiry', '-inf', now_ms, 'LIMIT', 0, limit)) do
    for _, run_id in ipairs(redis.call('LPOP', expiry_key(span), limit - #runs) or {}) do runs[#runs + 1] = run_id end
    if redis.call('EXISTS', expiry_key(span)) == 0 then redis.call('ZREM', prefix .. 'expiry', span) end
    if #runs >= limit then break end
  end
  return runs
end
-- By index, the runs to remove from it: one command for many costs a third of a command for each.
local runs, run_ids, keys = take_expired(), {}, {}
local function forget(index, run_id)
  run_ids[index] = run_ids[index] or {}
  table.insert(run_ids[index], run_id)
end
for _, run_id in ipairs(runs) do
  local run = redis.call('HMGET', run_key(run_id), 'function', 'status', 'chosen')
  if run[1] then
    if run[3] then keys[#keys + 1] = called_key(run[1], run[3]) end
    forget(runs_key(run[1]), run_id)
    if run[2] ~= COMPLETED then forget(kind_key(run[1], run[2]), run_id) end
  end
  for _, key in ipairs({run_key(run_id), steps_key(run_id), batch_key(run_id), children_key(run_id)}) do keys[#keys + 1] = key end
end
for index, ids in pairs(run_ids) do on_pages('ZREM', index, ids) end
on_keys('DEL', keys)
-- A run that is kept for longer than its event gets a copy of the event's text.
local function leave_text(uid)
  local record = redis.call('HGETALL', event_key(uid))
  for i = 1, #record, 2 do
    if string.sub(record[i], 1, 3) == 'fn:' then
      local run_id = record[i + 1]
      if string.sub(run_id, 1, 1) == '-' then run_id = uid .. run_id end
      local run = redis.call('HMGET', run_key(run_id), 'function', 'event', 'uid')
      if run[1] and not run[2] and event_uid(run_id, run[3]) == uid then
        redis.call('HSET', run_key(run_id), 'event', event_text(uid))
      end
    end
  end
end
-- An event belongs to no app: the longest retention of all counts.
local kept_ms
for _, app in ipairs(redis.call('SMEMBERS', prefix .. 'apps')) do
  local retention_ms = tonumber(redis.call('HGET', app_key(app), 'retention_ms') or 0)
  kept_ms = math.max(kept_ms or 0, retention_ms)
end
kept_ms = kept_ms or event_retention_ms
local oldest_ms = now_ms - kept_ms - math.min(kept_ms / 10, MAX_EVENT_SLACK_MS)
local removed, events = 0, {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'event_names', '-inf', oldest_ms, 'LIMIT', 0, limit)) do
  local key, next_seq, next_ms = events_key(name), nil, nil
  for _, entry in ipairs(redis.call('XRANGE', key, '-', '+', 'COUNT', limit - removed + 1)) do
    local uid, seq, received_ms = split_listed(entry)
    if received_ms > oldest_ms or removed >= limit then
      next_seq, next_ms = seq, received_ms
      break
    end
    leave_text(uid)
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
