-- route_events: record events and make the runs they start. Rules S1.3, S1.6, S7.4 to S7.9, S9.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 how many runs the child has slots for   4 app version   5 app_id
--        then for each event: uid, public id when the sender chose it, else '', name, event (JSON), number of functions;
--        and for each function: fn, queue, run_id, start_at, start_timeout_ms, finish_timeout_ms, flow control (see includes/create_run), '1' when
--        the child may claim the run, as it serves its queue
-- Reply  {hints, for each event: 'routed' or 'duplicate', seq, ...; claimed: run_id, fence, ...; what waits that events may end look at: for
--        each name of an event, the name, how many, event name or pattern SEP path, ...}. Flat, since each table in a reply takes 0.5 us.
--@include keys hint listing timer lanes throttle ready claim wait event
local function load_admission()
--@include unready wake resolve singleton cancel_index final_event finalize cancel skip singleton_entry scheduled rate_limit idempotency debounce batch admission
return admit
end
--@include create_run
local now, child_id, free, version, app = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local DEDUPE_MS = 86400000
local EVENT, FUNCTION = 5, 8  -- arguments of each
local app_field = 'app:' .. app

-- True when another event with the id that the sender chose came within 24 h: then its uid as well.
local function is_duplicate(public_id, uid)
  local dedupe = prefix .. 'event_id:' .. public_id
  local first = redis.call('HMGET', dedupe, 'uid', 'until')
  if first[1] and first[1] ~= uid and tonumber(first[2]) > tonumber(now) then return true, first[1] end
  if first[1] ~= uid then
    redis.call('HSET', dedupe, 'uid', uid, 'until', tonumber(now) + DEDUPE_MS)
    redis.call('PEXPIRE', dedupe, DEDUPE_MS + 3600000)  -- only tidies up
  end
  return false
end

-- Debounced and batched functions get duplicates as well (S1.3).
local function ignores_ids(flow)
  local table = flow ~= '' and cmsgpack.unpack(flow)
  return table and (table.debounce or table.batch)
end

-- Where each event begins in ARGV, and whether any of them may be known: one command for a batch of new events.
local function find_events()
  local starts, keys, at, last = {}, {}, 6, #ARGV
  while at <= last do
    starts[#starts + 1] = at
    keys[#keys + 1] = event_key(ARGV[at])
    at = at + EVENT + tonumber(ARGV[at + 4]) * FUNCTION
  end
  return starts, redis.call('EXISTS', unpack(keys)) > 0
end
local starts, any_known = find_events()
-- The order of events and waits, free of clocks: an event that is routed again, or by another app later, must not resolve a wait
-- stored since. The first new event takes places for all after it; those of events that turn out to be known stay empty.
local next_seq, last_seq = 1, 0
local function take_seq(left)
  if next_seq > last_seq then
    last_seq = redis.call('INCRBY', prefix .. 'seq', left)
    next_seq = last_seq - left + 1
  end
  next_seq = next_seq + 1
  return next_seq - 1
end
local met = {}  -- uids of this batch

local outcomes, claimed, names = {}, {}, {}
-- What was decided for an event stands: routed again, it counts for no limit, and starts only functions that are new.
local function route(at, left)
  local uid, public_id, name, event = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key = event_key(uid)
  local seq, is_new = nil, true
  if any_known or met[uid] then
    local known = redis.call('HMGET', key, 'seq', app_field)
    seq, is_new = known[1], not known[2]
  end
  met[uid] = true
  local record = is_new and {app_field, now} or {}
  if not seq then
    seq = take_seq(left)
    record = {app_field, now, 'name', name, 'event', event, 'received', now, 'seq', seq}
    list_event(name, uid, seq, now)
  end
  local duplicate, first
  if public_id ~= '' then duplicate, first = is_duplicate(public_id, uid) end
  if duplicate then
    record[#record + 1] = 'duplicate_of'
    record[#record + 1] = first
  else
    names[name] = true
  end
  local first_function = at + EVENT
  for i = first_function, first_function + tonumber(ARGV[at + 4]) * FUNCTION - 1, FUNCTION do
    local fn, run_id = ARGV[i], ARGV[i + 2]
    local is_decided = not is_new and redis.call('HEXISTS', key, 'fn:' .. fn) == 1
    local fence, landed = 0, nil
    if is_decided then
      -- A child that missed the first reply is told again, but never of more runs than it has set slots aside for.
      fence = free > 0 and known_fence(run_id, child_id) or 0
    elseif not duplicate or ignores_ids(ARGV[i + 6]) then
      fence, landed = (is_new and create_run or create_run_once)({
        id = run_id, fn = fn, queue = ARGV[i + 1], event = event, cause = 'event', version = version, parent = '',
        start_at = tonumber(ARGV[i + 3]), start_timeout_ms = tonumber(ARGV[i + 4]), finish_timeout_ms = tonumber(ARGV[i + 5]),
        flow = ARGV[i + 6], seq = seq,
      }, free > 0 and ARGV[i + 7] ~= '' and child_id or '', now)
      record[#record + 1] = 'fn:' .. fn
      record[#record + 1] = landed or run_id
    end
    if fence > 0 then
      free = free - 1
      claimed[#claimed + 1] = run_id
      claimed[#claimed + 1] = fence
    end
  end
  if record[1] then redis.call('HSET', key, unpack(record)) end
  outcomes[#outcomes + 1] = duplicate and 'duplicate' or 'routed'
  outcomes[#outcomes + 1] = tonumber(seq)
end

for i, at in ipairs(starts) do route(at, #starts - i + 1) end
-- Last, since an event may cancel a run that an event before it has started.
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
