-- event: what is kept of an event, and the index of events by name.
-- `event:<uid>` is a hash: name, received (ms), seq, and what became of it: `fn:<function>` with its run (from its `-` on, when the
-- uid is what stands before), `app:<app>` when that app has routed it and no function took it, `wait:...`, `cancel:...`. Its text
-- is `event` (JSON), or only `data`, and `ts` as milliseconds after `received`, when what stands around them is what we would
-- write: then the hash takes half the room.
-- `events:<name>` is a stream of `seq-received (ms)`, u: uid; it says what came when without a look at the events.
-- `event_names` holds the names, by when (ms) the oldest event was received that is kept.
local function event_head(uid, name) return '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"' .. name .. '","data":' end
local function event_tail(ts) return ',"ts":' .. string.format('%.0f', ts) .. '}' end
-- Add the text of an event to the fields of its record.
local function add_text(record, uid, name, text, received)
  local head = event_head(uid, name)
  local data, ts
  if string.find(text, head, 1, true) == 1 then data, ts = string.match(text, '^(.*),"ts":(%d+)}$', #head + 1) end
  local at = #record
  -- Other digits may say the same number.
  if data and event_tail(tonumber(ts)) == ',"ts":' .. ts .. '}' then
    record[at + 1], record[at + 2], record[at + 3], record[at + 4] = 'data', data, 'ts', tonumber(ts) - tonumber(received)
  else
    record[at + 1], record[at + 2] = 'event', text
  end
end
-- The text of an event: of its record, or nil when that was removed.
local function event_text(uid)
  local kept = redis.call('HMGET', event_key(uid), 'event', 'data', 'ts', 'name', 'received')
  if kept[1] or not kept[2] then return kept[1] or nil end
  return event_head(uid, kept[4]) .. kept[2] .. event_tail(kept[5] + kept[3])
end
-- How a run stands in the record of an event.
local function short_run(uid, run_id)
  if string.sub(run_id, 1, #uid + 1) == uid .. '-' then return string.sub(run_id, #uid + 1) end
  return run_id
end
local function list_event(name, uid, seq, now)
  local key, id = prefix .. 'events:' .. name, seq .. '-' .. now
  if redis.call('XADD', key, 'NOMKSTREAM', id, 'u', uid) then return end
  -- The first of its name.
  redis.call('XADD', key, id, 'u', uid)
  redis.call('ZADD', prefix .. 'event_names', now, name)
end
local function split_listed(entry)
  local seq, received_ms = string.match(entry[1], '^(%d+)-(%d+)$')
  return entry[2][2], tonumber(seq), tonumber(received_ms)
end
