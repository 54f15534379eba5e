-- find_waits: resolve the waits, and cancel the runs, for which an event's name and equality decide; return those whose condition
-- is still to be evaluated. Rules S3.3, S6.1.
-- KEYS   1 prefix
--@argv now_ms:int limit:int cursor arrivals[uid seq:int text lookups[]]
--       limit: about how many waits this call looks at. cursor: where to go on in the first lookup of the first arrival, or 0.
--       text: the event (JSON). lookups: event name or pattern `:` token; a token is path=value, or '' for waits without an
--       equality
-- Reply  {hints, open, where to go on}
--        open: {number of the arrival from 0, run_id, step_key, condition (CEL), event of the run (JSON), ...}; for a run to
--        cancel, run_id is '' and step_key is run_id SEP place
--        where to go on: {number of the arrival, number of its lookup from 0, cursor}, or {} when all is done
-- Repeat gives the open ones again; what is resolved or cancelled stays as it is
local SCAN_COUNT = 100
local open = {}

local function note_open(number, run_id, step_key, condition, of_run)
  local kept = redis.call('HMGET', run_key(of_run), 'event', 'uid')
  for _, part in ipairs({number, run_id, step_key, condition, event_of(of_run, kept[1], kept[2])}) do open[#open + 1] = part end
end

local function meet_cancel(entry_name, number, uid, seq)
  --@late open_cancel cancel_by_event
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
  -- A wait that was stored after the event was first routed is not met, even when the event is routed again.
  if not op or op.state ~= 'wait' or op.seq >= seq then return end
  if op.condition then
    note_open(number, run_id, step_key, op.condition, run_id)
  elseif resolve(run_id, step_key, {data = event}, now_ms) then
    redis.call('HSET', event_key(uid), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
  end
end

local number = 0
for uid, seq, text, lookups in arrivals do
  local nth = 0
  for lookup in lookups do
    repeat
      if limit <= 0 then return {hints, open, {number, nth, cursor}} end
      local page = redis.call('SSCAN', prefix .. 'waits:' .. lookup, cursor, 'COUNT', SCAN_COUNT)
      cursor = page[1]
      for _, member in ipairs(page[2]) do meet(member, number, uid, seq, text) end
      limit = limit - #page[2]
    until cursor == '0'
    nth = nth + 1
  end
  number = number + 1
end
return {hints, open, {}}
