-- resume_function: let the runs of a paused function begin and go on again. Rule S10.4.
-- KEYS   1 prefix
--@argv now_ms:int function_id
-- Reply  {since when (ms) the function was paused, or '' if it was not, hints}
-- Repeat gives ''
local since_ms = redis.call('HGET', prefix .. 'paused', function_id)
if not since_ms then return {'', hints} end
redis.call('HDEL', prefix .. 'paused', function_id)
for _, queue in ipairs(redis.call('SMEMBERS', held_key(function_id))) do
  local run = redis.call('ZRANGE', ready_key(function_id, queue), 0, 0, 'WITHSCORES')
  if run[1] then list_function(queue, function_id, function_id, run[2], now_ms) end
  local lane = redis.call('ZRANGE', lanes_key(function_id, queue), 0, 0)[1]
  local head = lane and redis.call('ZRANGE', lane_key(function_id, queue, lane), 0, 0, 'WITHSCORES') or {}
  if head[1] then list_function(queue, function_id, function_id .. LANES, head[2], now_ms) end
end
redis.call('DEL', held_key(function_id))
return {since_ms, hints}
