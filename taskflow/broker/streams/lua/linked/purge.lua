local function facts_of(flat)
  local facts = {}
  for i = 1, #flat, 2 do facts[flat[i]] = flat[i + 1] end
  return facts
end
local group = ARGV[1]
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return 0 end
local last = '-'
for _, each in ipairs(groups) do
  local facts = facts_of(each)
  if facts['name'] == group then last = '(' .. facts['last-delivered-id'] end
end
local removed = 0
while true do
  local entries = redis.call('XRANGE', KEYS[1], last, '+', 'COUNT', 1000)
  if #entries == 0 then return removed end
  local ids = {}
  for i, entry in ipairs(entries) do ids[i] = entry[1] end
  removed = removed + redis.call('XDEL', KEYS[1], unpack(ids))
end
