-- look_back: read events that came before a wait, a page at a time, oldest first; store the wait once there are no more. Rule S3.3.
-- KEYS   1 prefix
--@argv child_id run_id fence step_key packed since_ms:int after_seq:int limit:int
--       packed: the wait (msgpack). since_ms: events that were received before this do not count. after_seq: seq of the last event
--       that was looked at, or 0. limit: events in a page
-- Reply  {'fenced' (the claim is lost) | 'cancel' (the run shall end) | 'parked' (the wait is stored) | 'ok', page}
--        page: {uid, seq, event (JSON) or '' for one that ends no wait, ...}
-- Repeat reads the same page again, or gives 'parked'
-- One script looks for the last time and stores the wait, so that each event is either looked at or finds the wait.
local MAX_PAGE_BYTES = 1048576
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
if redis.call('HEXISTS', run_key(run_id), 'cancel') == 1 then return {'cancel', {}} end
if redis.call('HEXISTS', steps_key(run_id), step_key) == 1 then return {'parked', {}} end
local op = cmsgpack.unpack(packed)

local function names_of_wait()
  local names, is_there = {}, {}
  local function add(name)
    if not is_there[name] then names[#names + 1] = name end
    is_there[name] = true
  end
  for _, name in ipairs(op.events) do
    if is_pattern(name) then
      for _, each in ipairs(redis.call('ZRANGE', prefix .. 'event_names', 0, -1)) do
        if fits(each, name) then add(each) end
      end
    else
      add(name)
    end
  end
  return names
end

-- The seq at which to begin: all events before it were received before since_ms.
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
  local key = events_key(name)
  local first = after_seq > 0 and after_seq + 1 or first_seq(key)
  for _, entry in ipairs(redis.call('XRANGE', key, first, '+', 'COUNT', limit)) do
    local uid, seq = split_listed(entry)
    found[#found + 1] = {uid, seq}
  end
end
table.sort(found, function(one, other) return one[2] < other[2] end)

if #found == 0 then
  -- This is progress, as in park_run (S9.8).
  redis.call('HDEL', run_key(run_id), 'crashes', 'crash_log', 'trial')
  op.seq = redis.call('INCR', prefix .. 'seq')
  add_wait(op, run_id .. SEP .. step_key)
  redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
  set_timer(op.due, op_timer(run_id, step_key))
  return {'parked', {}}
end
local page, bytes = {}, 0
for i = 1, math.min(#found, limit) do
  -- An event without a seq was made by an invoke, and ends no wait.
  local kept = redis.call('HMGET', event_key(found[i][1]), 'at', 'duplicate_of')
  local has_seq = kept[1] and string.sub(kept[1], 1, 1) ~= '-'
  local event = has_seq and not kept[2] and event_text(found[i][1]) or ''
  page[#page + 1] = found[i][1]
  page[#page + 1] = found[i][2]
  page[#page + 1] = event
  bytes = bytes + #event
  if bytes > MAX_PAGE_BYTES then break end
end
return {'ok', page}
