-- find_waits: resolve the waits that events meet by equality alone, and cancel the runs; return those whose condition is still to be evaluated.
-- Rules S3.3, S6.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 how many waits to look at, about   3 cursor within the first lookup, or 0
--        then for each event: uid, seq, event (JSON), number of lookups, and these: name:token, where the token is path=value, or ''
-- Reply  {hints, open: {number of the event from 0, run_id, step_key (to cancel: '' and run_id SEP place), its condition
--        (CEL), event of the run (JSON), ...},
--        where to go on: {number of the event, number of its lookup from 0, cursor}, or {} when all is done}
--@include keys hint listing timer lanes ready unready wake wait resolve
local function load_cancel()
--@include singleton cancel_index final_event finalize cancel cancel_by_event
return open_cancel, cancel_by_event
end
local PAGE = 100
local now_ms, budget, cursor = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local open = {}

local function note_open(number, run_id, step_key, condition, of_run)
  for _, part in ipairs({number, run_id, step_key, condition, redis.call('HGET', run_key(of_run), 'event')}) do open[#open + 1] = part end
end

local open_cancel, cancel_by_event  -- few events cancel runs: what that takes is loaded for those
local function meet_cancel(entry_name, number, uid, seq)
  if not open_cancel then open_cancel, cancel_by_event = load_cancel() end
  local run_id, place = string.match(entry_name, '^(.-)' .. SEP .. '(.*)$')
  local entry = open_cancel(run_id, place, seq, now_ms)
  if not entry then return end
  if entry.condition then return note_open(number, '', entry_name, entry.condition, run_id) end
  cancel_by_event(run_id, uid, now_ms)
end

local function meet(member, number, uid, seq, event)
  local run_id, step_key = string.match(member, '^(.-)' .. SEP .. '(.*)$')
  if run_id == '' then return meet_cancel(step_key, number, uid, seq) end
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  local op = packed and cmsgpack.unpack(packed)
  -- A wait that was stored after the event was first seen is not met by it, even when the event is routed again.
  if not op or op.state ~= 'wait' or op.seq >= seq then return end
  if op.condition then
    note_open(number, run_id, step_key, op.condition, run_id)
  elseif resolve(run_id, step_key, {data = event}, now_ms) then
    redis.call('HSET', event_key(uid), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
  end
end

local number, at = 0, 4
while at <= #ARGV do
  local uid, seq, event, count = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], tonumber(ARGV[at + 3])
  for lookup = 1, count do
    repeat
      if budget <= 0 then return {hints, open, {number, lookup - 1, cursor}} end
      local page = redis.call('SSCAN', prefix .. 'waits:' .. ARGV[at + 3 + lookup], cursor, 'COUNT', PAGE)
      cursor = page[1]
      for _, member in ipairs(page[2]) do meet(member, number, uid, seq, event) end
      budget = budget - #page[2]
    until cursor == '0'
  end
  number, at = number + 1, at + 4 + count
end
return {hints, open, {}}
