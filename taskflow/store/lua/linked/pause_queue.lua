local prefix = KEYS[1]
local now_ms, app_id, queue = ARGV[1], ARGV[2], ARGV[3]
redis.call('HSETNX', prefix .. 'paused', (app_id .. '\31' .. queue), now_ms)
return tonumber(redis.call('HGET', prefix .. 'paused', (app_id .. '\31' .. queue)))
