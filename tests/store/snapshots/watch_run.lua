local prefix = KEYS[1]
local function run_key(run_id) return prefix .. 'run:' .. run_id end
local run_id = ARGV[1]
local run = redis.call('HMGET', run_key(run_id), 'status', 'ended')
if not run[1] then return 0 end
if not run[2] then redis.call('HSET', run_key(run_id), 'watched', 1) end
return 1
