local prefix = KEYS[1]
local function is_in_part(fn, part, parts)
  local last = {string.byte(fn, -3, -1)}
  local sum = #fn
  for i = 1, #last do sum = sum + last[i] * i * i end
  return sum % parts == part
end
local function chosen_functions(named, part, parts)
  if named[1] then return named end
  local chosen = {}
  for _, fn in ipairs(redis.call('SMEMBERS', prefix .. 'known_functions')) do
    if is_in_part(fn, part, parts) then chosen[#chosen + 1] = fn end
  end
  return chosen
end
local since_ms, until_ms, part, parts = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local KINDS = {'failed', 'cancelled', 'skipped', 'live'}
local named = {}
for functions_at = 5, #ARGV do
local fn = ARGV[functions_at]
 named[#named + 1] = fn end
local counts = {0, 0, 0, 0, 0}
for _, fn in ipairs(chosen_functions(named, part, parts)) do
  local kept = redis.call('ZCOUNT', (prefix .. 'runs:' .. fn), since_ms, until_ms)
  if kept > 0 then
    counts[1] = counts[1] + kept
    for place, kind in ipairs(KINDS) do
      counts[place + 1] = counts[place + 1] + redis.call('ZCOUNT', (prefix .. 'runs:' .. fn .. '\31' .. kind), since_ms, until_ms)
    end
  end
end
return counts
