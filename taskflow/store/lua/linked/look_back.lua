local prefix = KEYS[1]
local function owns(run_id, child_id, fence)
  local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'by', 'fence', 'status')
  return run[1] == child_id and run[2] == fence and run[3] == 'running'
end
local function fits(name, pattern) return string.sub(name, 1, #pattern - 1) == string.sub(pattern, 1, -2) end
local function split_listed(entry)
  local seq, received_ms = string.match(entry[1], '^(%d+)-(%d+)$')
  return entry[2][2], tonumber(seq), tonumber(received_ms)
end
local function each_wait(op, visit)
  for _, name in ipairs(op.events) do visit(name, op.path or '', op.token or '') end
end
local function add_wait(op, member)
  each_wait(op, function(name, path, token)
    if redis.call('SADD', prefix .. 'waits:' .. name .. ':' .. token, member) == 1 then
      redis.call('HINCRBY', prefix .. 'waitpaths:' .. name, path, 1)
      if (string.sub(name, -1) == '*') then redis.call('SADD', prefix .. 'waitpatterns', name) end
    end
  end)
end
local function set_timer(due_ms, member)
  local timers = prefix .. 'timers'
  local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  redis.call('ZADD', timers, due_ms, member)
  if (not first[2] or due_ms < tonumber(first[2])) and redis.call('LLEN', prefix .. 'nudge') == 0 then
    redis.call('LPUSH', prefix .. 'nudge', due_ms)
  end
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
local child_id, run_id, fence, step_key, packed, since_ms, after_seq, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local MAX_PAGE_BYTES = 1048576
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
if redis.call('HEXISTS', (prefix .. 'run:' .. run_id), 'cancel') == 1 then return {'cancel', {}} end
if redis.call('HEXISTS', (prefix .. 'steps:' .. run_id), step_key) == 1 then return {'parked', {}} end
local op = cmsgpack.unpack(packed)
local function names_of_wait()
  local names, is_there = {}, {}
  local function add(name)
    if not is_there[name] then names[#names + 1] = name end
    is_there[name] = true
  end
  for _, name in ipairs(op.events) do
    if (string.sub(name, -1) == '*') then
      for _, each in ipairs(redis.call('ZRANGE', prefix .. 'event_names', 0, -1)) do
        if fits(each, name) then add(each) end
      end
    else
      add(name)
    end
  end
  return names
end
local function first_seq(key)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not last then return 0 end
  local _, low = split_listed(redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1])
  local _, high = split_listed(last)
  high = high + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local _, seq, received_ms = split_listed(redis.call('XRANGE', key, middle, '+', 'COUNT', 1)[1])
    if received_ms >= since_ms then high = middle else low = seq + 1 end
  end
  return low
end
local found = {}
for _, name in ipairs(names_of_wait()) do
  local key = (prefix .. 'events:' .. name)
  local first = after_seq > 0 and after_seq + 1 or first_seq(key)
  for _, entry in ipairs(redis.call('XRANGE', key, first, '+', 'COUNT', limit)) do
    local uid, seq = split_listed(entry)
    found[#found + 1] = {uid, seq}
  end
end
table.sort(found, function(one, other) return one[2] < other[2] end)
if #found == 0 then
  redis.call('HDEL', (prefix .. 'run:' .. run_id), 'crashes', 'crash_log', 'trial')
  op.seq = redis.call('INCR', prefix .. 'seq')
  add_wait(op, run_id .. '\31' .. step_key)
  redis.call('HSET', (prefix .. 'steps:' .. run_id), step_key, cmsgpack.pack(op))
  set_timer(op.due, ('op' .. '\31' .. run_id .. '\31' .. step_key))
  return {'parked', {}}
end
local page, bytes = {}, 0
for i = 1, math.min(#found, limit) do
  local kept = redis.call('HMGET', (prefix .. 'event:' .. (found[i][1])), 'at', 'duplicate_of')
  local has_seq = kept[1] and string.sub(kept[1], 1, 1) ~= '-'
  local event = has_seq and not kept[2] and event_text(found[i][1]) or ''
  page[#page + 1] = found[i][1]
  page[#page + 1] = found[i][2]
  page[#page + 1] = event
  bytes = bytes + #event
  if bytes > MAX_PAGE_BYTES then break end
end
return {'ok', page}
