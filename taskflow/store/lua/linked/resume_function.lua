local prefix = KEYS[1]
local hints, hinted = {}, {}
local listed = {}
local paused_names
local function is_paused(name)
  if not paused_names then
    paused_names = {}
    for _, each in ipairs(redis.call('HKEYS', prefix .. 'paused')) do paused_names[each] = true end
  end
  return paused_names[name]
end
local function hint(app, queue, now_ms, force)
  local name = app .. '\31' .. queue
  if hinted[name] then return end
  hinted[name] = true
  if not force then
    local last_ms = redis.call('HGET', prefix .. 'hints', name)
    if last_ms and now_ms - tonumber(last_ms) < 2000 then return end
  end
  redis.call('HSET', prefix .. 'hints', name, now_ms)
  hints[#hints + 1] = app
  hints[#hints + 1] = queue
end
local function list_function(queue, fn, member, score, now_ms, silent)
  local best = listed[queue .. '\31' .. member]
  if best and best <= tonumber(score) and not silent then return end
  if is_paused(fn) then return redis.call('SADD', (prefix .. 'held:' .. fn), queue) end
  listed[queue .. '\31' .. member] = tonumber(score)
  local app = string.match(fn, '^([^/]+)/')
  if redis.call('ZADD', (prefix .. 'queue:' .. app .. ':' .. queue), 'LT', score, member) == 1 then
    redis.call('SADD', prefix .. 'queues', app .. '\31' .. queue)
  end
  if silent then
    redis.call('HDEL', prefix .. 'hints', app .. '\31' .. queue)
  else
    hint(app, queue, now_ms)
  end
end
local now_ms, function_id = tonumber(ARGV[1]), ARGV[2]
local since_ms = redis.call('HGET', prefix .. 'paused', function_id)
if not since_ms then return {'', hints} end
redis.call('HDEL', prefix .. 'paused', function_id)
for _, queue in ipairs(redis.call('SMEMBERS', (prefix .. 'held:' .. function_id))) do
  local run = redis.call('ZRANGE', (prefix .. 'ready:' .. queue .. ':' .. function_id), 0, 0, 'WITHSCORES')
  if run[1] then list_function(queue, function_id, function_id, run[2], now_ms) end
  local lane = redis.call('ZRANGE', (prefix .. 'lanes:' .. queue .. ':' .. function_id), 0, 0)[1]
  local head = lane and redis.call('ZRANGE', ((prefix .. 'ready:' .. queue .. ':' .. (function_id .. '\31' .. lane))), 0, 0, 'WITHSCORES') or {}
  if head[1] then list_function(queue, function_id, function_id .. '\31', head[2], now_ms) end
end
redis.call('DEL', (prefix .. 'held:' .. function_id))
return {since_ms, hints}
