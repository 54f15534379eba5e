local prefix = KEYS[1]
local function owns(run_id, child_id, fence)
  local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'by', 'fence', 'status')
  return run[1] == child_id and run[2] == fence and run[3] == 'running'
end
local PENDING = {wait = true, retry = true, offer = true, taken = true}
local function clear_timer(member) redis.call('ZREM', prefix .. 'timers', member) end
local listed = {}
local function unlist_function(queue, fn, member)
  listed[queue .. '\31' .. member] = nil
  redis.call('ZREM', (prefix .. 'queue:' .. (string.match(fn, '^([^/]+)/')) .. ':' .. queue), member)
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
local function remove_from_lane(member, fn, queue, lane, now_ms)
  local key = ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. lane)))
  if redis.call('ZREM', key, member) == 0 or redis.call('EXISTS', key) == 1 then return end
  local member_of_lane = (queue .. '\31' .. fn .. '\31' .. lane)
  clear_timer('lane' .. '\31' .. member_of_lane)
  if redis.call('ZREM', (prefix .. 'lanes:' .. queue .. ':' .. fn), lane) == 1 and redis.call('EXISTS', (prefix .. 'lanes:' .. queue .. ':' .. fn)) == 0 then
    unlist_function(queue, fn, fn .. '\31')
  end
  each_limit(lane, function(limit)
    if redis.call('ZREM', (prefix .. 'blocked:' .. limit), member_of_lane) == 1 and redis.call('EXISTS', (prefix .. 'blocked:' .. limit)) == 0 then
      redis.call('ZREM', prefix .. 'blocked', limit)
    end
    unblock(limit, now_ms)
  end)
end
local function remove_ready(member, fn, queue, lane, now_ms)
  if lane and lane ~= '' then return remove_from_lane(member, fn, queue, lane, now_ms) end
  if redis.call('ZREM', (prefix .. 'ready:' .. queue .. ':' .. fn), member) == 1 and redis.call('EXISTS', (prefix .. 'ready:' .. queue .. ':' .. fn)) == 0 then
    unlist_function(queue, fn, fn)
  end
end
local function each_wait(op, visit)
  for _, name in ipairs(op.events) do visit(name, op.path or '', op.token or '') end
end
local function remove_wait(op, member)
  each_wait(op, function(name, path, token)
    if redis.call('SREM', prefix .. 'waits:' .. name .. ':' .. token, member) == 0 then return end
    if redis.call('HINCRBY', prefix .. 'waitpaths:' .. name, path, -1) > 0 then return end
    redis.call('HDEL', prefix .. 'waitpaths:' .. name, path)
    if (string.sub(name, -1) == '*') and redis.call('EXISTS', prefix .. 'waitpaths:' .. name) == 0 then
      redis.call('SREM', prefix .. 'waitpatterns', name)
    end
  end)
end
local function remove_signal(op, member)
  if redis.call('HGET', prefix .. 'signals', op.signal) == member then redis.call('HDEL', prefix .. 'signals', op.signal) end
end
local function unlist(run_id, step_key, op, now_ms)
  local job = run_id .. '\31' .. step_key
  if op.state == 'offer' then
    local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'function', 'queue', 'lane')
    remove_ready(job, run[1], run[2] or 'default', run[3], now_ms)
  end
  if op.due then clear_timer(('op' .. '\31' .. run_id .. '\31' .. step_key)) end
  if op.kind == 'event' then remove_wait(op, job) end
  if op.kind == 'signal' then remove_signal(op, job) end
end
local now_ms, child_id, run_id, fence, step_key, kind = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
local packed = redis.call('HGET', (prefix .. 'steps:' .. run_id), step_key)
if not packed then return {'ok', {}} end
local op = cmsgpack.unpack(packed)
if (op.kind or 'step') == kind and op.state ~= 'dropped' then return {'ok', {}} end
if (PENDING[op.state]) then unlist(run_id, step_key, op, now_ms) end
redis.call('HDEL', (prefix .. 'steps:' .. run_id), step_key)
return {'ok', hints}
