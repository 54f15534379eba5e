-- route_event: record an event and make the runs it starts. Rules S1.3, S1.6, S9.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 uid   3 public id when the sender chose it, else ''   4 name   5 event (JSON)   6 child_id   7 how many
--        runs the child has slots for   8 app version   9 app_id   then for each function: fn, queue, run_id, start_at,
--        start_ms, finish_ms, skip reason or '', '1' when the child may claim the run, as it serves its queue
-- Reply  {'routed' or 'duplicate', seq, hints, claimed (run_id, fence, ...), paths that waits for this event name look at}
--@include keys hint ready timer claim create_run
local now, uid, public_id, name, event = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local child_id, free, version, app = ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
local DEDUPE_MS = 86400000
local key = event_key(uid)
local known = redis.call('HMGET', key, 'seq', 'app:' .. app)
local seq, is_new = known[1], not known[2]
local record = {'app:' .. app, now}
if not seq then
  -- The order of events and waits, free of clocks: an event that is routed again, or by another app later, must not
  -- resolve a wait stored since.
  seq = redis.call('INCR', prefix .. 'seq')
  record = {'app:' .. app, now, 'name', name, 'event', event, 'received', now, 'seq', seq}
end

if public_id ~= '' then
  local dedupe = prefix .. 'event_id:' .. public_id
  local first = redis.call('HMGET', dedupe, 'uid', 'until')
  if first[1] and first[1] ~= uid and tonumber(first[2]) > tonumber(now) then
    redis.call('HSET', key, 'duplicate_of', first[1], unpack(record))
    redis.call('ZADD', prefix .. 'events', 'NX', now, uid)
    return {'duplicate', tonumber(seq), {}, {}, {}}
  end
  if first[1] ~= uid then
    redis.call('HSET', dedupe, 'uid', uid, 'until', tonumber(now) + DEDUPE_MS)
    redis.call('PEXPIRE', dedupe, DEDUPE_MS + 3600000)  -- only tidies up
  end
end

local make = is_new and create_run or create_run_once
local claimed = {}
for i = 10, #ARGV, 8 do
  local fn, run_id, skipped = ARGV[i], ARGV[i + 2], ARGV[i + 6]
  record[#record + 1] = 'fn:' .. fn
  record[#record + 1] = skipped ~= '' and skipped or run_id
  if skipped == '' then
    local fence = make({
      id = run_id, fn = fn, queue = ARGV[i + 1], event = event, cause = 'event', version = version, parent = '',
      start_at = tonumber(ARGV[i + 3]), start_ms = tonumber(ARGV[i + 4]), finish_ms = tonumber(ARGV[i + 5]),
    }, ARGV[i + 7] ~= '' and #claimed / 2 < free and child_id or '', now)
    if fence > 0 then
      claimed[#claimed + 1] = run_id
      claimed[#claimed + 1] = fence
    end
  end
end
if is_new then
  redis.call('HSET', key, unpack(record))
  redis.call('ZADD', prefix .. 'events', 'NX', now, uid)  -- another app may have recorded it before
end
return {'routed', tonumber(seq), hints, claimed, redis.call('HKEYS', prefix .. 'waitpaths:' .. name)}
