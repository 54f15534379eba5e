-- cancel_by_event: an event meets an entry that says which events cancel a run (S6.1).
-- Returns the entry, or nil when this event does not count for it. An entry whose time is over is removed from the index.
local function open_cancel(run_id, place, seq, now_ms)
  local field = redis.call('HGET', run_key(run_id), 'cancels')
  local entry = field and cmsgpack.unpack(field)[tonumber(place)]
  if not entry or entry.seq >= seq then return nil end
  if entry.until_ms and entry.until_ms < now_ms then return remove_wait(entry, cancel_member(run_id, place)) end
  return entry
end
-- An event's name as JSON writes it between quotes. In the event's text no string before the name can hold a plain quote.
local names_of_events = {}
local function find_name(uid)
  local record = redis.call('HMGET', event_key(uid), 'frame', 'event')
  if record[1] then return string.match(record[1], SEP .. '(.*)$') end
  local kept = record[2] or ''
  local _, before = string.find(kept, '"name":"', 1, true)
  if not before then return '' end
  local at = string.find(kept, '["\\]', before + 1)
  while at and string.sub(kept, at, at) == '\\' do at = string.find(kept, '["\\]', at + 2) end
  return at and string.sub(kept, before + 1, at - 1) or ''
end
local function cancel_by_event(run_id, uid, now_ms)
  local name = names_of_events[uid] or find_name(uid)
  names_of_events[uid] = name
  local reason = '{"name":"Cancelled","message":"event ' .. name .. ' came: ' .. uid .. '","stack":""}'
  local outcome = cancel(run_id, reason, now_ms)
  if outcome ~= 'final' then redis.call('HSET', event_key(uid), 'cancel:' .. run_id, outcome) end
end
