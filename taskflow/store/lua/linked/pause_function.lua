local prefix = KEYS[1]
local known_lanes = {}
local function parse_lane(lane)
  local known = known_lanes[lane]
  if known then return known end
  local text, throttle = string.match(lane, '^(.-)\29(.*)$')
  known = {text = text or lane, throttle = throttle, limits = {}}
  for limit in string.gmatch(known.text, '[^\30]+') do known.limits[#known.limits + 1] = limit end
  known_lanes[lane] = known
  return known
end
local function each_limit(lane, visit)
  for nth, limit in ipairs(parse_lane(lane).limits) do visit(limit, nth) end
end
local known_settings = {}
local function settings_of(fn)
  local settings = known_settings[fn]
  if not settings then
    local text = redis.call('HGET', prefix .. 'flow', fn) or '- - - -'
    local first, second, interval_us, tolerance_us, max_crashes = string.match(text, '^(%S+) (%S+) (%S+) (%S+) ?(%S*)$')
    settings = {limits = {tonumber(first), tonumber(second)}}
    settings.interval_us, settings.tolerance_us = tonumber(interval_us), tonumber(tolerance_us)
    settings.max_crashes = tonumber(max_crashes)
    known_settings[fn] = settings
  end
  return settings
end
local function is_full(limit, most) return most and redis.call('SCARD', (prefix .. 'places:' .. limit)) >= most end
local hints, hinted = {}, {}
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
local listed = {}
local paused_names
local function is_paused(name)
  if not paused_names then
    paused_names = {}
    for _, each in ipairs(redis.call('HKEYS', prefix .. 'paused')) do paused_names[each] = true end
  end
  return paused_names[name]
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
local function serve_lane(queue, fn, lane, turn, now_ms, silent)
  local head = redis.call('ZRANGE', ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. lane))), 0, 0, 'WITHSCORES')
  if not head[1] then return end
  redis.call('ZADD', (prefix .. 'lanes:' .. queue .. ':' .. fn), turn, lane)
  list_function(queue, fn, fn .. '\31', head[2], now_ms, silent)
end
local function unblock(limit, now_ms, silent)
  local first = redis.call('ZRANGE', (prefix .. 'blocked:' .. limit), 0, 0, 'WITHSCORES')
  if not first[1] then return false end
  local queue, fn, lane = string.match(first[1], '^(.-)' .. '\31' .. '(.-)' .. '\31' .. '(.*)$')
  local most
  each_limit(lane, function(id, nth) if id == limit then most = settings_of(fn).limits[nth] end end)
  if is_full(limit, most) then return false end
  redis.call('ZREM', (prefix .. 'blocked:' .. limit), first[1])
  if redis.call('EXISTS', (prefix .. 'blocked:' .. limit)) == 0 then redis.call('ZREM', prefix .. 'blocked', limit) end
  if not silent then hint(string.match(fn, '^([^/]+)/'), queue, now_ms, true) end
  serve_lane(queue, fn, lane, first[2], now_ms, silent)
  if is_paused(fn) then return unblock(limit, now_ms, silent) end
  return true
end
local now_ms, function_id = ARGV[1], ARGV[2]
local app_id = string.match(function_id, '^([^/]+)/')
redis.call('HSETNX', prefix .. 'paused', function_id, now_ms)
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'queues')) do
  local its_app, queue = string.match(name, '^(.-)' .. '\31' .. '(.*)$')
  if its_app == app_id and redis.call('ZREM', (prefix .. 'queue:' .. app_id .. ':' .. queue), function_id, function_id .. '\31') > 0 then
    redis.call('SADD', (prefix .. 'held:' .. function_id), queue)
    for _, lane in ipairs(redis.call('ZRANGE', (prefix .. 'lanes:' .. queue .. ':' .. function_id), 0, 99)) do
      each_limit(lane, function(limit) unblock(limit, tonumber(now_ms)) end)
    end
  end
end
redis.call('PUBLISH', (prefix .. 'pauses:' .. app_id), function_id)
return {tonumber(redis.call('HGET', prefix .. 'paused', function_id)), hints}
