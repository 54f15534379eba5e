-- event: the record of an event, and the index of events by name.
-- `event:<uid>` is a hash: `at`, which is seq-received (ms), or -received for one that came by no route; what became of it:
-- `fn:<function>` with its run (from its `-` on, when the uid is what stands before), `app:<app>` when that app has routed it and
-- no function took it, `wait:...`, `cancel:...`; and its text: `event` (JSON), or only its `data` and its `frame`, ts SEP name,
-- when what stands around these is what we would write: the hash takes half the room then. Python makes that form, see
-- store/records.py.
-- `events:<name>` is a stream of `seq-received (ms)`, u: uid; it says what came when without a look at the events.
-- `event_names` holds the names, by when (ms) the oldest event was received that is kept.
-- Add the text of an event to the fields of its record.
local function add_text(record, frame, body)
  local at = #record
  if frame == '' then record[at + 1], record[at + 2] = 'event', body
  else record[at + 1], record[at + 2], record[at + 3], record[at + 4] = 'frame', frame, 'data', body end
end
-- An event as JSON, from its frame and its data, or from no frame and the JSON.
local function event_json(uid, frame, body)
  if not frame or frame == '' then return body end
  local ts, name = string.match(frame, '^(%d+)' .. SEP .. '(.*)$')
  return '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"' .. name .. '","data":' .. body .. ',"ts":' .. ts .. '}'
end
-- The text of an event: of its record, or nil when that was removed.
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
  -- It is the first event of its name.
  redis.call('XADD', key, at, 'u', uid)
  redis.call('ZADD', prefix .. 'event_names', now, name)
end
local function split_listed(entry)
  local seq, received_ms = string.match(entry[1], '^(%d+)-(%d+)$')
  return entry[2][2], tonumber(seq), tonumber(received_ms)
end
