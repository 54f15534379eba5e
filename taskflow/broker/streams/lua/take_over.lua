-- take_over: give a consumer the messages of dead consumers of these streams, and remove dead consumers that hold none. Rules S9.1,
-- S9.3.
-- KEYS   1 stream   2... further streams
--@argv group consumer idle_ms limit:int alive dead[]
--       consumer: gets the messages. idle_ms: a message is free when its consumer has no live key and has done nothing with it for
--       this long. limit: take so many messages of a stream at most. alive: prefix of the keys that live consumers keep. dead:
--       consumers that are certainly dead; their messages are free at once
-- Reply  for each stream its messages: {{{id, {field, value, ...}}, ...}, ...}
-- Repeat takes further messages; those of a lost reply are the consumer's, and it finds them among its pending ones
local is_dead, taken = {}, {}
for name in dead do is_dead[name] = true end

local function take(stream, name, idle, room, entries)
  local claim = {'XCLAIM', stream, group, consumer, '0'}
  for _, message in ipairs(redis.call('XPENDING', stream, group, 'IDLE', idle, '-', '+', room, name)) do
    claim[#claim + 1] = message[1]
  end
  if #claim == 5 then return end
  for _, entry in ipairs(redis.call(unpack(claim))) do
    if entry then entries[#entries + 1] = entry end
  end
end

for i, stream in ipairs(KEYS) do
  local entries = {}
  for _, facts in ipairs(consumers_of(stream, group)) do
    local name = facts['name']
    if name ~= consumer and (is_dead[name] or redis.call('EXISTS', alive .. name) == 0) then
      local idle, room = is_dead[name] and '0' or idle_ms, limit - #entries
      if facts['pending'] > 0 and room > 0 then
        take(stream, name, idle, room, entries)
      elseif facts['pending'] == 0 and facts['idle'] >= tonumber(idle) then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
      end
    end
  end
  taken[i] = entries
end
return taken
