-- facts: the replies of XINFO as tables by name.
local function facts_of(flat)
  local facts = {}
  for i = 1, #flat, 2 do facts[flat[i]] = flat[i + 1] end
  return facts
end
-- The consumers of a stream; none if there is no such stream.
local function consumers_of(stream, group)
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if consumers.err then return {} end
  for i, consumer in ipairs(consumers) do consumers[i] = facts_of(consumer) end
  return consumers
end
