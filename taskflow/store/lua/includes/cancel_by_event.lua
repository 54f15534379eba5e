-- cancel_by_event: an event meets one of those that cancel a run (S6.1).
-- The entry, or nil when this event does not count for it. What is too late for ever leaves the index.
local function open_cancel(run_id, place, seq, now_ms)
  local field = redis.call('HGET', run_key(run_id), 'cancels')
  local entry = field and cmsgpack.unpack(field)[tonumber(place)]
  if not entry or entry.seq >= seq then return nil end
  if entry.until_ms and entry.until_ms < now_ms then return remove_wait(entry, cancel_member(run_id, place)) end
  return entry
end
local function cancel_by_event(run_id, uid, now_ms)
  local name = redis.call('HGET', event_key(uid), 'name') or ''
  local message = string.gsub(cjson.encode('event ' .. name .. ' came: ' .. uid), '\\/', '/')
  local outcome = cancel(run_id, '{"name":"Cancelled","message":' .. message .. ',"stack":""}', now_ms)
  if outcome ~= 'final' then redis.call('HSET', event_key(uid), 'cancel:' .. run_id, outcome) end
end
