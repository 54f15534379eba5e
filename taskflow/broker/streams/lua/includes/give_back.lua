-- give_back: put a message that a consumer holds at the end of its stream. Returns 1, or 0 when it is gone or is no message.
local function give_back(stream, group, id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local is_message = entry and entry[2][4]
  -- Append first: a server without memory refuses that, and then the message must still be held.
  if is_message then redis.call('XADD', stream, '*', 'm', entry[2][2], 'b', entry[2][4], 'r', '1') end
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  return is_message and 1 or 0
end
