-- event: the index of events, by name.
-- `events:<name>` is a stream of `seq-received (ms)`, u: uid; it says what came when without a look at the events.
-- `event_names` holds the names, by when (ms) the oldest event was received that is kept.
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
