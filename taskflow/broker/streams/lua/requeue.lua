-- requeue: put messages that a consumer holds at the end of their stream, marked as redelivered. Rule S9.1.
-- KEYS   1 stream
--@argv group consumer ids[]
-- Reply  how many of them the consumer still held; messages that another consumer has taken over stay with that one
-- Repeat gives 0: the consumer holds them no more
local moved = 0
for id in ids do
  local held = redis.pcall('XPENDING', KEYS[1], group, id, id, 1, consumer)
  if held[1] then moved = moved + give_back(KEYS[1], group, id) end
end
return moved
