local prefix = KEYS[1]
local function tell_watchers(run_id)
  if redis.call('PUBLISH', (prefix .. 'watch:' .. run_id), '') == 0 then redis.call('HDEL', (prefix .. 'run:' .. run_id), 'watched') end
end
local child_id, run_id, fence, progress = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'by', 'fence', 'watched')
if run[1] ~= child_id or run[2] ~= fence then return 0 end
redis.call('HSET', (prefix .. 'run:' .. run_id), 'progress', progress)
if run[3] then tell_watchers(run_id) end
return 1
