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
local group, consumer, idle_ms, limit, alive = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local is_dead, taken = {}, {}
for dead_at = 6, #ARGV do
local name = ARGV[dead_at]
 is_dead[name] = true end
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
