-- pause_function: no run of a function begins or goes on until it is resumed. Rule S10.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 fn
-- Reply  {since when it is paused (ms), which is before now_ms when it was so already, hints}
--@include keys hint listing timer lanes
local now_ms, fn, app = tonumber(ARGV[1]), ARGV[2], app_of(ARGV[2])
redis.call('HSETNX', prefix .. 'paused', fn, ARGV[1])
-- Its ready runs stay where they are, but nobody finds them: they are claimed by way of the indexes.
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'queues')) do
  local its_app, queue = string.match(name, '^(.-)' .. SEP .. '(.*)$')
  if its_app == app and redis.call('ZREM', queue_key(app, queue), fn, fn .. LANES) > 0 then
    redis.call('SADD', held_key(fn), queue)
  end
end
-- Lanes that were brought back for room under a limit do not take it now: others may.
for _, lane in ipairs(redis.call('ZRANGE', lanes_key(fn), 0, 99)) do
  each_limit(lane, function(limit) unblock(limit, now_ms) end)
end
redis.call('PUBLISH', pauses_channel(app), fn)
return {tonumber(redis.call('HGET', prefix .. 'paused', fn)), hints}
