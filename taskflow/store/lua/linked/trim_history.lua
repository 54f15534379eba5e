local prefix = KEYS[1]
local function on_pages(command, key, items, first, last)
  first, last = first or 1, last or #items
  if last - first < 1000 and first <= last then return redis.call(command, key, unpack(items, first, last)) end
  local sum = 0
  for i = first, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
end
local function on_keys(command, keys)
  local sum = 0
  for i = 1, #keys, 1000 do sum = sum + redis.call(command, unpack(keys, i, math.min(i + 1000 - 1, #keys))) end
  return sum
end
local function event_json(uid, frame, body)
  if not frame or frame == '' then return body end
  local ts, name = string.match(frame, '^(%d+)' .. '\31' .. '(.*)$')
  return '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"' .. name .. '","data":' .. body .. ',"ts":' .. ts .. '}'
end
local function event_text(uid)
  local kept = redis.call('HMGET', (prefix .. 'event:' .. uid), 'frame', 'data', 'event')
  return event_json(uid, kept[1], kept[2] or kept[3]) or nil
end
local function split_listed(entry)
  local seq, received_ms = string.match(entry[1], '^(%d+)-(%d+)$')
  return entry[2][2], tonumber(seq), tonumber(received_ms)
end
local now_ms, event_retention_ms, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local MAX_EVENT_SLACK_MS = 60000
local function take_expired()
  local runs = {}
  for _, span in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'expiry', '-inf', now_ms, 'LIMIT', 0, limit)) do
    for _, run_id in ipairs(redis.call('LPOP', (prefix .. 'expiry:' .. span), limit - #runs) or {}) do runs[#runs + 1] = run_id end
    if redis.call('EXISTS', (prefix .. 'expiry:' .. span)) == 0 then redis.call('ZREM', prefix .. 'expiry', span) end
    if #runs >= limit then break end
  end
  return runs
end
local runs, run_ids, keys = take_expired(), {}, {}
local function forget(index, run_id)
  run_ids[index] = run_ids[index] or {}
  table.insert(run_ids[index], run_id)
end
for _, run_id in ipairs(runs) do
  local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'function', 'status', 'chosen')
  if run[1] then
    if run[3] then keys[#keys + 1] = (prefix .. 'called:' .. (run[1]) .. ':' .. (run[3])) end
    forget((prefix .. 'runs:' .. (run[1])), run_id)
    if run[2] ~= 'completed' then forget((prefix .. 'runs:' .. (run[1]) .. '\31' .. (run[2])), run_id) end
  end
  for _, key in ipairs({(prefix .. 'run:' .. run_id), (prefix .. 'steps:' .. run_id), (prefix .. 'batch:' .. run_id), (prefix .. 'children:' .. run_id)}) do keys[#keys + 1] = key end
end
for index, ids in pairs(run_ids) do on_pages('ZREM', index, ids) end
on_keys('DEL', keys)
local function leave_text(uid)
  local record = redis.call('HGETALL', (prefix .. 'event:' .. uid))
  for i = 1, #record, 2 do
    if string.sub(record[i], 1, 3) == 'fn:' then
      local run_id = record[i + 1]
      if string.sub(run_id, 1, 1) == '-' then run_id = uid .. run_id end
      local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'function', 'event', 'uid')
      if run[1] and not run[2] and ((run[3]) or string.match(run_id, '^(%w+)%-') or '') == uid then
        redis.call('HSET', (prefix .. 'run:' .. run_id), 'event', event_text(uid))
      end
    end
  end
end
local kept_ms
for _, app in ipairs(redis.call('SMEMBERS', prefix .. 'apps')) do
  local retention_ms = tonumber(redis.call('HGET', (prefix .. 'app:' .. app), 'retention_ms') or 0)
  kept_ms = math.max(kept_ms or 0, retention_ms)
end
kept_ms = kept_ms or event_retention_ms
local oldest_ms = now_ms - kept_ms - math.min(kept_ms / 10, MAX_EVENT_SLACK_MS)
local removed, events = 0, {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'event_names', '-inf', oldest_ms, 'LIMIT', 0, limit)) do
  local key, next_seq, next_ms = (prefix .. 'events:' .. name), nil, nil
  for _, entry in ipairs(redis.call('XRANGE', key, '-', '+', 'COUNT', limit - removed + 1)) do
    local uid, seq, received_ms = split_listed(entry)
    if received_ms > oldest_ms or removed >= limit then
      next_seq, next_ms = seq, received_ms
      break
    end
    leave_text(uid)
    events[#events + 1] = (prefix .. 'event:' .. uid)
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
