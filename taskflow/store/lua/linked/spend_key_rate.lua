local prefix = KEYS[1]
local name, request, now_ms, events, limit, period_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local rate = prefix .. 'key_rate:' .. name
local due, spent = string.match(redis.call('GET', rate) or '', '^(%S+) (%S+)$')
if spent == request then return 0 end
local after = math.max(tonumber(due) or 0, now_ms) + events * period_ms / limit
local wait = after - now_ms - period_ms
if wait > 0 then return math.ceil(wait) end
redis.call('SET', rate, string.format('%.3f %s', after, request), 'PX', period_ms + 60000)
return 0
