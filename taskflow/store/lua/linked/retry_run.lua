local prefix = KEYS[1]
local function owns(run_id, child_id, fence)
  local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'by', 'fence', 'status')
  return run[1] == child_id and run[2] == fence and run[3] == 'running'
end
local counted, made_live, left_live, ended_rows = {}, {}, {}, {}
local function tally(fn, queue, status, difference)
  local field = fn .. '\31' .. queue .. '\31' .. status
  counted[field] = (counted[field] or 0) + difference
end
local function move_run(fn, queue, from, to)
  tally(fn, queue, from, -1)
  tally(fn, queue, to, 1)
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
local function on_pages(command, key, items, first, last)
  first, last = first or 1, last or #items
  if last - first < 1000 and first <= last then return redis.call(command, key, unpack(items, first, last)) end
  local sum = 0
  for i = first, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
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
local function free_places(lane, holders, now_ms, silent)
  each_limit(lane, function(limit)
    for _ = 1, on_pages('SREM', (prefix .. 'places:' .. limit), holders) do
      if not unblock(limit, now_ms, silent) then break end
    end
  end)
end
local function free_place(lane, holder, now_ms, silent)
  if lane then free_places(lane, {holder}, now_ms, silent) end
end
local function set_timer(due_ms, member)
  local timers = prefix .. 'timers'
  local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  redis.call('ZADD', timers, due_ms, member)
  if (not first[2] or due_ms < tonumber(first[2])) and redis.call('LLEN', prefix .. 'nudge') == 0 then
    redis.call('LPUSH', prefix .. 'nudge', due_ms)
  end
end
local function tell_watchers(run_id)
  if redis.call('PUBLISH', (prefix .. 'watch:' .. run_id), '') == 0 then redis.call('HDEL', (prefix .. 'run:' .. run_id), 'watched') end
end
local census_ms
local function list_ended()
  local key, runs = prefix .. 'ended', table.concat(ended_rows, '\31')
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', 1000, census_ms .. '-*', 'runs', runs)
  if type(added) ~= 'table' then return end
  local last_ms = string.match(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1][1], '^(%d+)')
  redis.call('XADD', key, 'MAXLEN', '~', 1000, last_ms .. '-*', 'runs', runs)
end
local function note_census()
  for field, difference in pairs(counted) do
    if difference ~= 0 and redis.call('HINCRBY', prefix .. 'counts', field, difference) == 0 then
      redis.call('HDEL', prefix .. 'counts', field)
    end
  end
  for fn, rows in pairs(made_live) do
    on_pages('ZADD', (prefix .. 'runs:' .. fn), rows)
    on_pages('ZADD', (prefix .. 'runs:' .. fn .. '\31' .. 'live'), rows)
  end
  for fn, run_ids in pairs(left_live) do on_pages('ZREM', (prefix .. 'runs:' .. fn .. '\31' .. 'live'), run_ids) end
  if census_ms then list_ended() end
end
local function main()
local now_ms, child_id, run_id, fence, attempts, due_ms, error = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local key = (prefix .. 'run:' .. run_id)
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
local run = redis.call('HMGET', key, 'cancel', 'lane', 'function', 'queue', 'watched', 'attempt')
if run[1] then return {'cancel', {}} end
if tonumber(run[6] or 0) > 0 then
  local before = redis.call('HMGET', key, 'earlier_errors', 'last_error')
  if not string.find(before[2], '"clear":true', 1, true) then
    redis.call('HSET', key, 'earlier_errors', (before[1] and before[1] .. ',' or '') .. before[2])
  end
end
redis.call('HSET', key, 'attempt', attempts, 'last_error', error, 'status', 'waiting', 'due', due_ms)
redis.call('HDEL', (prefix .. 'claims:' .. child_id), run_id)
move_run(run[3], run[4] or 'default', 'running', 'waiting')
free_place(run[2], run_id, now_ms)
set_timer(tonumber(due_ms), 'start' .. '\31' .. run_id)
if run[5] then tell_watchers(run_id) end
return {'ok', hints}
end
local is_done, reply = pcall(main)
note_census()
if not is_done then error(reply, 0) end
return reply
