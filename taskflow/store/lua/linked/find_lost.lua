local prefix = KEYS[1]
local paused_names
local function is_paused(name)
  if not paused_names then
    paused_names = {}
    for _, each in ipairs(redis.call('HKEYS', prefix .. 'paused')) do paused_names[each] = true end
  end
  return paused_names[name]
end
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
local listed = {}
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
local now_ms, hint_age_ms, event_age_ms, silence_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local GRAVE_MS = 1200000
local next_ms
local function look_at(at_ms) next_ms = math.min(next_ms or at_ms, at_ms) end
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'queues')) do
  local app_id, queue = string.match(name, '^(.-)' .. '\31' .. '(.*)$')
  if redis.call('EXISTS', (prefix .. 'queue:' .. app_id .. ':' .. queue)) == 0 then
    redis.call('SREM', prefix .. 'queues', name)
    redis.call('HDEL', prefix .. 'hints', name)
  elseif not is_paused(name) then
    local sent_ms = tonumber(redis.call('HGET', prefix .. 'hints', name) or 0)
    if now_ms - sent_ms >= hint_age_ms then
      hint(app_id, queue, now_ms, true)
      sent_ms = now_ms
    end
    look_at(sent_ms + hint_age_ms)
  end
end
for _, limit in ipairs(redis.call('ZRANGE', prefix .. 'blocked', 0, 49)) do
  redis.call('ZADD', prefix .. 'blocked', 'XX', now_ms, limit)
  for _ = 1, 10 do
    if not unblock(limit, now_ms) then break end
  end
end
local events = {}
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'outbox', '-inf', now_ms - event_age_ms, 'LIMIT', 0, 100)) do
  local event = redis.call('HGET', prefix .. 'outbox:events', uid)
  if event then
    events[#events + 1] = uid
    events[#events + 1] = event
  else
    redis.call('ZREM', prefix .. 'outbox', uid)
  end
end
local unpublished = redis.call('ZRANGE', prefix .. 'outbox', 0, 0, 'WITHSCORES')
if unpublished[2] then look_at(tonumber(unpublished[2]) + event_age_ms) end
local dead = {}
for _, worker_id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'workers', '-inf', now_ms - silence_ms)) do
  local row = redis.call('SMEMBERS', prefix .. 'worker:' .. worker_id)
  table.insert(row, 1, worker_id)
  dead[#dead + 1] = row
end
redis.call('ZREMRANGEBYSCORE', prefix .. 'graves', '-inf', now_ms - GRAVE_MS)
for _, child_id in ipairs(redis.call('ZRANGE', prefix .. 'graves', 0, -1)) do
  if redis.call('EXISTS', (prefix .. 'claims:' .. child_id)) == 1 then dead[#dead + 1] = {'', child_id} end
end
local oldest = redis.call('ZRANGE', prefix .. 'workers', 0, 0, 'WITHSCORES')
if oldest[2] then look_at(tonumber(oldest[2]) + silence_ms) end
local first = redis.call('ZRANGE', prefix .. 'timers', 0, 0, 'WITHSCORES')
return {hints, events, dead, next_ms or '', first[2] or '', redis.call('EXISTS', prefix .. 'bulks_open')}
