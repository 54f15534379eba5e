local function facts_of(flat)
  local facts = {}
  for i = 1, #flat, 2 do facts[flat[i]] = flat[i + 1] end
  return facts
end
local function consumers_of(stream, group)
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if consumers.err then return {} end
  for i, consumer in ipairs(consumers) do consumers[i] = facts_of(consumer) end
  return consumers
end
local function give_back(stream, group, id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local is_message = entry and entry[2][4]
  if is_message then redis.call('XADD', stream, '*', 'm', entry[2][2], 'b', entry[2][4], 'r', '1') end
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  return is_message and 1 or 0
end
local group, named, alive = ARGV[1], ARGV[2], ARGV[3]
local moved = 0
for _, stream in ipairs(KEYS) do
  for _, facts in ipairs(consumers_of(stream, group)) do
    local name = facts['name']
    if string.sub(name, 1, #named) == named then
      redis.call('DEL', alive .. name)
      local held
      repeat
        held = redis.call('XPENDING', stream, group, '-', '+', 500, name)
        for _, message in ipairs(held) do moved = moved + give_back(stream, group, message[1]) end
      until #held == 0
      redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    end
  end
end
return moved
