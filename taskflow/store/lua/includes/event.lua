-- event: the record of an event, and the index of events by name.
-- `event:<uid>` is a hash:
--   at                seq-received (ms), or -received for an event that came by no route
--   fn:<function>     the function's run, from its `-` on when the run's id begins with the uid; or why there is none
--   app:<app>         the app has routed the event, and no function has taken it
--   wait:..., cancel:...  the run that goes on, or is cancelled, because of the event
--   event             its text (JSON), or instead of that:
--   data, frame       its data (JSON), and ts SEP name, when all the rest of the text is as we would write it. The record then
-- takes
--                     half the room. Python decides which form it is (store/records.py)
-- `events:<name>` is a stream of entries `seq-received (ms)`, u: uid. It says which event came when, so that nobody need read them.
-- `event_names` is a sorted set of the names, by when (ms) the oldest event that is kept was received.
-- Add the text of an event to the fields of its record.
local function add_text(record, frame, body)
  local at = #record
  if frame == '' then record[at + 1], record[at + 2] = 'event', body
  else record[at + 1], record[at + 2], record[at + 3], record[at + 4] = 'frame', frame, 'data', body end
end
-- An event as JSON. body: its data when it has a frame, else the JSON itself.
local function event_json(uid, frame, body)
  if not frame or frame == '' then return body end
  local ts, name = string.match(frame, '^(%d+)' .. SEP .. '(.*)$')
  return '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"' .. name .. '","data":' .. body .. ',"ts":' .. ts .. '}'
end
-- The text of an event as its record has it, or nil when the record was removed.
local function event_text(uid)
  local kept = redis.call('HMGET', event_key(uid), 'frame', 'data', 'event')
  return event_json(uid, kept[1], kept[2] or kept[3]) or nil
end
-- The form of a run's id in the record of an event.
local function short_run(uid, run_id)
  if string.sub(run_id, 1, #uid + 1) == uid .. '-' then return string.sub(run_id, #uid + 1) end
  return run_id
end
-- at: seq-received.
local function list_event(name, uid, at, now)
  local key = events_key(name)
  if redis.call('XADD', key, 'NOMKSTREAM', at, 'u', uid) then return end
  -- This is the first event of its name.
  redis.call('XADD', key, at, 'u', uid)
  redis.call('ZADD', prefix .. 'event_names', now, name)
end
local function split_listed(entry)
  local seq, received_ms = string.match(entry[1], '^(%d+)-(%d+)$')
  return entry[2][2], tonumber(seq), tonumber(received_ms)
end
