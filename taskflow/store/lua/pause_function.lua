-- pause_function: let no run of a function begin or go on until the function is resumed. Rule S10.4.
-- KEYS   1 prefix
--@argv now_ms function_id
-- Reply  {since when (ms) the function is paused: earlier than now_ms if it was paused already, hints}
-- Repeat keeps the time of the first call
local app_id = app_of(function_id)
redis.call('HSETNX', prefix .. 'paused', function_id, now_ms)
-- The function's ready runs stay where they are. Claims don't find them, since the function leaves the indexes of its queues.
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'queues')) do
  local its_app, queue = string.match(name, '^(.-)' .. SEP .. '(.*)$')
  if its_app == app_id and redis.call('ZREM', queue_key(app_id, queue), function_id, function_id .. LANES) > 0 then
    redis.call('SADD', held_key(function_id), queue)
    -- Lanes that are served because a place under their limit is free do not take it now: lanes of other functions may.
    for _, lane in ipairs(redis.call('ZRANGE', lanes_key(function_id, queue), 0, 99)) do
      each_limit(lane, function(limit) unblock(limit, tonumber(now_ms)) end)
    end
  end
end
redis.call('PUBLISH', pauses_channel(app_id), function_id)
return {tonumber(redis.call('HGET', prefix .. 'paused', function_id)), hints}
