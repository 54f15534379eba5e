local prefix = KEYS[1]
local function run_key(run_id) return prefix .. 'run:' .. run_id end
local function steps_key(run_id) return prefix .. 'steps:' .. run_id end
local function batch_key(run_id) return prefix .. 'batch:' .. run_id end
local function on_pages(command, key, items, first, last)
  local sum = 0
  last = last or #items
  for i = first or 1, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
end
local function runs_key(fn) return prefix .. 'runs:' .. fn end
local function on_keys(command, keys)
  local sum = 0
  for i = 1, #keys, 1000 do sum = sum + redis.call(command, unpack(keys, i, math.min(i + 1000 - 1, #keys))) end
  return sum
end
local function app_key(app) return prefix .. 'app:' .. app end
local function events_key(name) return prefix .. 'events:' .. name end
local function split_listed(entry)
  local seq, received_ms = string.match(entry[1], '^(%d+)-(%d+)$')
  return entry[2][2], tonumber(seq), tonumber(received_ms)
end
local function event_key(uid) return prefix .. 'event:' .. uid end
local now_ms, event_retention_ms, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local runs = redis.call('ZRANGEBYSCORE', prefix .. 'expiry', '-inf', now_ms, 'LIMIT', 0, limit)
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
