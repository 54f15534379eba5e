local prefix = KEYS[1]
local id, outcome, events, error = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = prefix .. 'webhook:' .. id
if redis.call('EXISTS', key) == 0 then return 0 end
redis.call('HSET', key, 'outcome', outcome, 'events', events, 'error', error)
return 1
