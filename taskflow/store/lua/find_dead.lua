-- find_dead: workers without a heartbeat since `dead_before`, with their children. Rule S9.3.
-- KEYS   1 prefix
-- ARGV   1 dead_before (ms)
-- Reply  {{worker_id, child_id, ...}, ...}
--@include keys
local dead = {}
for _, worker_id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'workers', '-inf', ARGV[1])) do
  local row = redis.call('SMEMBERS', prefix .. 'worker:' .. worker_id)
  table.insert(row, 1, worker_id)
  dead[#dead + 1] = row
end
return dead
