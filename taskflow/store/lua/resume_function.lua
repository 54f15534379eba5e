-- resume_function: the runs of a paused function begin and go on again. Rule S10.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 fn
-- Reply  {since when it was paused (ms), or '' when it was not, hints}
--@include keys hint listing timer lanes
local now_ms, fn = tonumber(ARGV[1]), ARGV[2]
local since_ms = redis.call('HGET', prefix .. 'paused', fn)
if not since_ms then return {'', hints} end
redis.call('HDEL', prefix .. 'paused', fn)
local run = redis.call('ZRANGE', ready_key(fn), 0, 0, 'WITHSCORES')
local lane = redis.call('ZRANGE', lanes_key(fn), 0, 0)[1]
local head = lane and redis.call('ZRANGE', lane_key(fn, lane), 0, 0, 'WITHSCORES') or {}
for _, queue in ipairs(redis.call('SMEMBERS', held_key(fn))) do
  if run[1] then list_function(queue, fn, fn, run[2], now_ms) end
  if head[1] then list_function(queue, fn, fn .. LANES, head[2], now_ms) end
end
redis.call('DEL', held_key(fn))
return {since_ms, hints}
