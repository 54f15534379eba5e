-- route_events: record events and make the runs they start. Rules S1.3, S1.6, S9.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 how many runs the child has slots for   4 app version   5 app_id
--        then for each event: uid, public id when the sender chose it, else '', name, event (JSON), number of functions;
--        and for each function: fn, queue, run_id, start_at, start_ms, finish_ms, skip reason or '', '1' when the child
--        may claim the run, as it serves its queue
-- Reply  {hints, for each event: {'routed' or 'duplicate', seq, claimed (run_id, fence, ...), paths that waits for this event
--        name look at}}
--@include keys hint ready timer claim create_run
local now, child_id, free, version, app = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local DEDUPE_MS = 86400000
local EVENT, FUNCTION = 5, 8  -- arguments of each
local events, app_field = prefix .. 'events', 'app:' .. app

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

local function route(at)
  local uid, public_id, name, event = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key = event_key(uid)
  local known = redis.call('HMGET', key, 'seq', app_field)
  local seq, is_new = known[1], not known[2]
  local record = {app_field, now}
  if not seq then
    -- The order of events and waits, free of clocks: an event that is routed again, or by another app later, must not
    -- resolve a wait stored since.
    seq = redis.call('INCR', prefix .. 'seq')
    record = {app_field, now, 'name', name, 'event', event, 'received', now, 'seq', seq}
  end
  if public_id ~= '' then
    local duplicate, first = is_duplicate(public_id, uid)
    if duplicate then
      redis.call('HSET', key, 'duplicate_of', first, unpack(record))
      redis.call('ZADD', events, 'NX', now, uid)
      return {'duplicate', tonumber(seq), {}, {}}
    end
  end
  local make, claimed = is_new and create_run or create_run_once, {}
  local first_function = at + EVENT
  for i = first_function, first_function + tonumber(ARGV[at + 4]) * FUNCTION - 1, FUNCTION do
    local fn, run_id, skipped = ARGV[i], ARGV[i + 2], ARGV[i + 6]
    record[#record + 1] = 'fn:' .. fn
    record[#record + 1] = skipped ~= '' and skipped or run_id
    if skipped == '' then
      local fence = make({
        id = run_id, fn = fn, queue = ARGV[i + 1], event = event, cause = 'event', version = version, parent = '',
        start_at = tonumber(ARGV[i + 3]), start_ms = tonumber(ARGV[i + 4]), finish_ms = tonumber(ARGV[i + 5]),
      }, free > 0 and ARGV[i + 7] ~= '' and child_id or '', now)
      if fence > 0 then
        free = free - 1
        claimed[#claimed + 1] = run_id
        claimed[#claimed + 1] = fence
      end
    end
  end
  if is_new then
    redis.call('HSET', key, unpack(record))
    redis.call('ZADD', events, 'NX', now, uid)  -- another app may have recorded it before
  end
  return {'routed', tonumber(seq), claimed, redis.call('HKEYS', prefix .. 'waitpaths:' .. name)}
end

local reply, at = {hints}, 6
while at <= #ARGV do
  reply[#reply + 1] = route(at)
  at = at + EVENT + tonumber(ARGV[at + 4]) * FUNCTION
end
return reply
