-- release: give back all messages that dead consumers hold, marked as redelivered, and forget the consumers. Rule S9.3.
-- KEYS   1 stream   2... further streams
--@argv group named alive
--       named: the beginning of the names of the dead consumers. alive: prefix of the keys that live consumers keep
-- Reply  how many messages were given back
-- Repeat finds no such consumers
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
