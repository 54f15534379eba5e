local prefix = KEYS[1]
local hints, hinted = {}, {}
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
local function is_join_open(run_id, step_key)
  local join = redis.call('HGET', (prefix .. 'joins:' .. run_id), step_key)
  return join and redis.call('HINCRBY', (prefix .. 'joins:' .. run_id), '\31' .. join, -1) > 0
end
local function tell_watchers(run_id)
  if redis.call('PUBLISH', (prefix .. 'watch:' .. run_id), '') == 0 then redis.call('HDEL', (prefix .. 'run:' .. run_id), 'watched') end
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
local function make_lane_ready(member, fn, queue, lane, score, now_ms, silent)
  local key = ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. lane)))
  local is_listed = redis.call('EXISTS', key) == 1
  redis.call('ZADD', key, score, member)
  if not is_listed then serve_lane(queue, fn, lane, score, now_ms, silent) end
end
local has_ready = {}
local function make_ready(member, fn, queue, lane, score, now_ms, silent)
  if lane and lane ~= '' then return make_lane_ready(member, fn, queue, lane, score, now_ms, silent) end
  local key = (prefix .. 'ready:' .. queue .. ':' .. fn)
  redis.call('ZADD', key, score, member)
  has_ready[key] = true
  list_function(queue, fn, fn, score, now_ms, silent)
end
local function wake(run_id, step_key, now_ms)
  local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'status', 'function', 'queue', 'score', 'by', 'due', 'lane', 'created',
    'watched')
  if run[9] then tell_watchers(run_id) end
  if run[1] == 'waiting' then
    if run[6] then return end
    redis.call('HSET', (prefix .. 'run:' .. run_id), 'status', 'queued')
    move_run(run[2], run[3] or 'default', 'waiting', 'queued')
    make_ready(run_id, run[2], run[3] or 'default', run[7], tonumber(run[4] or run[8]), now_ms)
  elseif run[1] == 'running' then
    redis.call('HSET', (prefix .. 'run:' .. run_id), 'dirty', 1)
    redis.call('PUBLISH', (prefix .. 'child:' .. (run[5])), 'resolved' .. '\31' .. run_id .. '\31' .. step_key)
  end
end
local function resolve(run_id, step_key, outcome, now_ms, kind, child)
  local packed = redis.call('HGET', (prefix .. 'steps:' .. run_id), step_key)
  if not packed then return false end
  local op = cmsgpack.unpack(packed)
  if not (PENDING[op.state]) or kind and op.kind ~= kind or child and op.child ~= child then return false end
  unlist(run_id, step_key, op, now_ms)
  op.due, op.ended = nil, now_ms
  if outcome.error then
    op.state, op.error = 'failed', outcome.error
  else
    op.state, op.data = 'done', outcome.data
    redis.call('HDEL', (prefix .. 'run:' .. run_id), 'attempt', 'earlier_errors')
  end
  redis.call('HSET', (prefix .. 'steps:' .. run_id), step_key, cmsgpack.pack(op))
  if outcome.error or not is_join_open(run_id, step_key) then wake(run_id, step_key, now_ms) end
  return true
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
local now_ms, signal, data, uid = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local KEPT_MS = 3600000
local sent = prefix .. 'signal:' .. uid
local told = redis.call('GET', sent)
if told then return {told, hints} end
local holder = redis.call('HGET', prefix .. 'signals', signal)
if not holder then return {'', hints} end
local run_id, step_key = string.match(holder, '^(.-)' .. '\31' .. '(.*)$')
if not resolve(run_id, step_key, {data = data}, now_ms) then return {'', hints} end
redis.call('SET', sent, run_id, 'PX', KEPT_MS)
return {run_id, hints}
end
local is_done, reply = pcall(main)
note_census()
if not is_done then error(reply, 0) end
return reply
