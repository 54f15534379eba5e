local prefix = KEYS[1]
local function owns(run_id, child_id, fence)
  local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'by', 'fence', 'status')
  return run[1] == child_id and run[2] == fence and run[3] == 'running'
end
local child_id, run_id, fence, step_key, uid = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if not owns(run_id, child_id, fence) or redis.call('EXISTS', (prefix .. 'event:' .. uid)) == 0 then return 0 end
redis.call('HSET', (prefix .. 'event:' .. uid), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
return 1
