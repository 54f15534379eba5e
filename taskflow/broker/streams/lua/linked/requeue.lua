local function give_back(stream, group, id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local is_message = entry and entry[2][4]
  if is_message then redis.call('XADD', stream, '*', 'm', entry[2][2], 'b', entry[2][4], 'r', '1') end
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  return is_message and 1 or 0
end
local group, consumer = ARGV[1], ARGV[2]
local moved = 0
for ids_at = 3, #ARGV do
local id = ARGV[ids_at]

  local held = redis.pcall('XPENDING', KEYS[1], group, id, id, 1, consumer)
  if held[1] then moved = moved + give_back(KEYS[1], group, id) end
end
return moved
