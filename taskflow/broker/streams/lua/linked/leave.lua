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
local group, consumer, alive = ARGV[1], ARGV[2], ARGV[3]
local others = 0
for _, facts in ipairs(consumers_of(KEYS[1], group)) do
  if facts['name'] ~= consumer then
    others = others + redis.call('EXISTS', alive .. facts['name'])
  elseif facts['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, consumer)
  end
end
return others
