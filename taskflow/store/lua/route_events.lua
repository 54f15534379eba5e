-- route_events: record events, and make the runs that they start. Rules S1.3, S1.6, S7.4 to S7.9, S9.1.
-- KEYS   1 prefix
--@argv now_ms child_id free:int version app_id edition
--@argv events[uid public_id name frame body
--@argv runs[function_id queue run_id start_at_ms start_timeout_ms finish_timeout_ms flow is_claimable:flag]]
--       free: how many runs the child has slots for. version: of the child's code base. edition: the functions of the app by which
--       the child has planned (see includes/code_bases), or '' when any will do. public_id: the id that the sender chose, or ''.
--       frame, body: the event as its record keeps it (includes/event). flow: see includes/create_run. is_claimable: the child may
--       claim the run, since it has the function and serves the queue
-- Reply  {hints, for each event: 'routed' or 'duplicate', seq, ...; claimed: {run_id, fence, ...}; the waits that the events may
--        meet: for each event name, the name, how many lookups, event name or pattern SEP path, ...}. It is flat, since each table
--        in a reply takes 0.5 us. {'changed'} when other functions of the app count now: nothing is done, and the child plans anew
-- Repeat makes no second run, and tells the fences of the runs that the child holds, for at most as many as it has slots for
local DEDUPE_MS = 86400000
local app_field = 'app:' .. app_id

-- True, and the uid of the first event, when another event of this name came with the same chosen id within 24 h. The hash of a
-- chosen id holds for each name until when the first event counts, and the uid of that event.
local function is_duplicate(public_id, name, uid)
  local dedupe = prefix .. 'event_id:' .. public_id
  local known = redis.call('HGET', dedupe, name)
  local until_ms, first = string.match(known or '', '^(%d+):(.*)$')
  if first and first ~= uid and tonumber(until_ms) > tonumber(now_ms) then return true, first end
  if first ~= uid then
    redis.call('HSET', dedupe, name, string.format('%d:%s', tonumber(now_ms) + DEDUPE_MS, uid))
    -- The lifetime only tidies up.
    redis.call('PEXPIRE', dedupe, DEDUPE_MS + 3600000)
  end
  return false
end

-- Functions with a debounce or a batch get duplicates too (S1.3).
local function ignores_ids(flow)
  local limits = flow ~= '' and cmsgpack.unpack(flow)
  return limits and (limits.debounce or limits.batch)
end

if edition ~= '' and redis.call('EXISTS', edition_key(app_id, edition)) == 0 then return {'changed'} end
-- One command finds out that all events of a batch are new, as most are.
local keys = {}
for uid in events do keys[#keys + 1] = event_key(uid) end
local event_count = #keys
local any_known = on_keys('EXISTS', keys) > 0
-- seq is the order of events and waits, which needs no clock: an event that is routed again, or later by another app, must not
-- resolve a wait that was stored since. The first new event takes a place for each event from it on; the places of events that turn
-- out to be known stay empty.
local next_seq, last_seq = 1, 0
local function take_seq(left)
  if next_seq > last_seq then
    last_seq = redis.call('INCRBY', prefix .. 'seq', left)
    next_seq = last_seq - left + 1
  end
  next_seq = next_seq + 1
  return next_seq - 1
end
-- The uids of this batch so far.
local met = {}

-- Whether functions of this app have taken an event.
local function has_functions(key)
  local start = 'fn:' .. app_id .. '/'
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, #start) == start then return true end
  end
  return false
end
local outcomes, claimed, names = {}, {}, {}
-- What was decided for an event stands: when it is routed again it counts under no limit, and starts only functions that are new.
local function route(uid, public_id, name, frame, body, runs, left)
  local key = event_key(uid)
  local seq, is_new = nil, true
  if any_known or met[uid] then
    local known = redis.call('HMGET', key, 'at', app_field)
    seq, is_new = known[1] and tonumber(string.match(known[1], '^%d+')), not known[2] and not has_functions(key)
  end
  met[uid] = true
  local record = {}
  if not seq then
    seq = take_seq(left)
    local at = seq .. '-' .. now_ms
    record = {'at', at}
    add_text(record, frame, body)
    list_event(name, uid, at, now_ms)
  end
  local duplicate, first, is_taken
  if public_id ~= '' then duplicate, first = is_duplicate(public_id, name, uid) end
  if duplicate then
    record[#record + 1] = 'duplicate_of'
    record[#record + 1] = first
  else
    names[name] = true
  end
  for function_id, queue, run_id, start_at_ms, start_timeout_ms, finish_timeout_ms, flow, is_claimable in runs do
    local is_decided = not is_new and redis.call('HEXISTS', key, 'fn:' .. function_id) == 1
    local fence, landed = 0, nil
    if is_decided then
      -- A child that missed the first reply is told of its runs again, but never of more than it has set slots aside for.
      fence = free > 0 and known_fence(run_id, child_id) or 0
    elseif not duplicate or ignores_ids(flow) then
      local short, claimer = short_run(uid, run_id), free > 0 and is_claimable and child_id or ''
      local is_plain = is_new and flow == '' and short ~= run_id and start_at_ms == '0' and start_timeout_ms == '0'
        and finish_timeout_ms == '0' and not is_paused(function_id)
      if is_plain then
        fence = create_plain(run_id, function_id, queue, version, claimer, now_ms)
      else
        --@late create_run create_run_once
        fence, landed = (is_new and create_run or create_run_once)({
          id = run_id, fn = function_id, queue = queue, event = body, frame = frame, cause = 'event', version = version,
          parent = '', start_at_ms = tonumber(start_at_ms), start_timeout_ms = tonumber(start_timeout_ms),
          finish_timeout_ms = tonumber(finish_timeout_ms), flow = flow, seq = seq, uid = uid,
        }, claimer, now_ms)
      end
      is_taken = true
      record[#record + 1] = 'fn:' .. function_id
      record[#record + 1] = landed and short_run(uid, landed) or short
    end
    if fence > 0 then
      free = free - 1
      claimed[#claimed + 1] = run_id
      claimed[#claimed + 1] = fence
    end
  end
  if is_new and not is_taken then
    record[#record + 1] = app_field
    record[#record + 1] = 1
  end
  if record[1] then on_pages('HSET', key, record) end
  outcomes[#outcomes + 1] = duplicate and 'duplicate' or 'routed'
  outcomes[#outcomes + 1] = seq
end

local left = event_count
for uid, public_id, name, frame, body, runs in events do
  route(uid, public_id, name, frame, body, runs, left)
  left = left - 1
end
-- This comes last, since an event may cancel a run that an event before it has started.
local lookups = {}
for name in pairs(names) do
  local found = lookups_of(name)
  if found[1] then
    lookups[#lookups + 1] = name
    lookups[#lookups + 1] = #found
    for _, lookup in ipairs(found) do lookups[#lookups + 1] = lookup end
  end
end
return {hints, outcomes, claimed, lookups}
