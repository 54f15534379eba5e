local prefix = KEYS[1]
local function gcra_due(text, now_ms)
  local due_ms, parts = string.match(text or '', '^(%d+) (%d+)')
  if due_ms and tonumber(due_ms) >= now_ms then return tonumber(due_ms), tonumber(parts) end
  return now_ms, 0
end
local function gcra_wait(due_ms, parts, count, limit, period_ms, now_ms)
  local early = (due_ms - now_ms) * limit + parts - period_ms * (limit - count)
  return early > 0 and math.ceil(early / limit) or 0
end
local function gcra_after(due_ms, parts, count, limit, period_ms)
  local sum = parts + period_ms * count
  return due_ms + math.floor(sum / limit), sum % limit
end
local name, request, now_ms, events, limit, period_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local rate = prefix .. 'key_rate:' .. name
local kept = redis.call('GET', rate) or ''
if string.match(kept, '^%S+ %S+ (%S+)$') == request then return 0 end
local due_ms, parts = gcra_due(kept, now_ms)
local wait = gcra_wait(due_ms, parts, events, limit, period_ms, now_ms)
if wait > 0 then return wait end
due_ms, parts = gcra_after(due_ms, parts, events, limit, period_ms)
redis.call('SET', rate, string.format('%.0f %.0f %s', due_ms, parts, request), 'PX', period_ms + 60000)
return 0
