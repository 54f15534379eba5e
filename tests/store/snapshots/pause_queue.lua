local prefix = KEYS[1]
local function queue_member(app, queue) return app .. '\31' .. queue end
local now_ms, app_id, queue = ARGV[1], ARGV[2], ARGV[3]
redis.call('HSETNX', prefix .. 'paused', queue_member(app_id, queue), now_ms)
return tonumber(redis.call('HGET', prefix .. 'paused', queue_member(app_id, queue)))
