local prefix = KEYS[1]
local child_id, run_id, fence, is_all = ARGV[1], ARGV[2], ARGV[3], (ARGV[4] ~= '')
local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'by', 'fence', 'cancel', 'status')
if run[1] ~= child_id or run[2] ~= fence or run[4] ~= 'running' then return {'fenced', {}} end
if is_all then redis.call('HDEL', (prefix .. 'run:' .. run_id), 'dirty') end
local ops = {}
for step_keys_at = 5, #ARGV do
local step_key = ARGV[step_keys_at]
 ops[#ops + 1] = redis.call('HGET', (prefix .. 'steps:' .. run_id), step_key) end
return {run[3] and 'cancel' or 'ok', ops}
