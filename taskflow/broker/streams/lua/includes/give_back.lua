-- give_back: a message that a consumer holds goes to the end of its stream. How many did: 0 when it is no message, or gone.
local function give_back(stream, group, id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local is_message = entry and entry[2][4]
  -- First, for a server without memory refuses it, and then the message must still be held.
  if is_message then redis.call('XADD', stream, '*', 'm', entry[2][2], 'b', entry[2][4], 'r', '1') end
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  return is_message and 1 or 0
end
