local paused_names
local prefix = KEYS[1]
local function is_paused(name)
  if not paused_names then
    paused_names = {}
    for _, each in ipairs(redis.call('HKEYS', prefix .. 'paused')) do paused_names[each] = true end
  end
  return paused_names[name]
end
local hints, hinted = {}, {}
local function take_step(run_id, step_key, child_id)
  local packed = redis.call('HGET', (prefix .. 'steps:' .. run_id), step_key)
  local op = packed and cmsgpack.unpack(packed)
  if not op or op.state ~= 'offer' then return nil end
  op.state, op.by, op.fence = 'taken', child_id, redis.call('HINCRBY', (prefix .. 'run:' .. run_id), 'takings', 1)
  packed = cmsgpack.pack(op)
  redis.call('HSET', (prefix .. 'steps:' .. run_id), step_key, packed)
  return op.fence, packed
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
local function take_places(lane, holder)
  each_limit(lane, function(limit) redis.call('SADD', (prefix .. 'places:' .. limit), holder) end)
end
local function tell_watchers(run_id)
  if redis.call('PUBLISH', (prefix .. 'watch:' .. run_id), '') == 0 then redis.call('HDEL', (prefix .. 'run:' .. run_id), 'watched') end
end
local function split_lane(lane)
  local known = parse_lane(lane)
  return known.text, known.throttle
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
local function count_start(fn, lane, now_ms)
  local limits, throttle = split_lane(lane)
  local interval_us = settings_of(fn).interval_us
  if throttle and interval_us then
    local due_us = math.max(tonumber(redis.call('GET', (prefix .. 'throttle:' .. throttle)) or 0), now_ms * 1000) + interval_us
    local life_ms = math.ceil(due_us / 1000) - now_ms + 3600000
    redis.call('SET', (prefix .. 'throttle:' .. throttle), string.format('%.0f', due_us), 'PX', life_ms)
  end
  return limits
end
local function clear_timer(member) redis.call('ZREM', prefix .. 'timers', member) end
local function set_timer(due_ms, member)
  local timers = prefix .. 'timers'
  local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  redis.call('ZADD', timers, due_ms, member)
  if (not first[2] or due_ms < tonumber(first[2])) and redis.call('LLEN', prefix .. 'nudge') == 0 then
    redis.call('LPUSH', prefix .. 'nudge', due_ms)
  end
end
local function start_clocks(run_id, start_timeout_ms, finish_timeout_ms, now_ms)
  if start_timeout_ms then clear_timer('start_timeout' .. '\31' .. run_id) end
  if finish_timeout_ms then set_timer(now_ms + tonumber(finish_timeout_ms), 'finish_timeout' .. '\31' .. run_id) end
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
local function event_json(uid, frame, body)
  if not frame or frame == '' then return body end
  local ts, name = string.match(frame, '^(%d+)' .. '\31' .. '(.*)$')
  return '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"' .. name .. '","data":' .. body .. ',"ts":' .. ts .. '}'
end
local function event_text(uid)
  local kept = redis.call('HMGET', (prefix .. 'event:' .. uid), 'frame', 'data', 'event')
  return event_json(uid, kept[1], kept[2] or kept[3]) or nil
end
local function is_full(limit, most) return most and redis.call('SCARD', (prefix .. 'places:' .. limit)) >= most end
local function full_limit(fn, lane)
  local limits, full = settings_of(fn).limits, nil
  each_limit(lane, function(limit, nth)
    if not full and is_full(limit, limits[nth]) then full = limit end
  end)
  return full
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
local function block_lane(queue, fn, lane, turn, full, now_ms)
  redis.call('ZREM', (prefix .. 'lanes:' .. queue .. ':' .. fn), lane)
  redis.call('ZADD', (prefix .. 'blocked:' .. full), turn, (queue .. '\31' .. fn .. '\31' .. lane))
  redis.call('ZADD', prefix .. 'blocked', 'NX', now_ms, full)
  each_limit(lane, function(limit) if limit ~= full then unblock(limit, now_ms) end end)
end
local function opens_at(fn, lane)
  local _, throttle = split_lane(lane)
  local tolerance_us = throttle and settings_of(fn).tolerance_us
  if not tolerance_us then return 0 end
  local due_us = redis.call('GET', (prefix .. 'throttle:' .. throttle))
  return due_us and math.ceil((tonumber(due_us) - tolerance_us) / 1000) or 0
end
local function see_worker(worker_id, now_ms)
  if redis.call('ZADD', prefix .. 'workers', 'GT', now_ms, worker_id) == 1 then
    redis.call('HSET', prefix .. 'registered', worker_id, now_ms)
  end
end
local function note_claimant(child_id, now_ms)
  local worker_id = string.match(child_id, '^(.*):')
  if redis.call('SADD', prefix .. 'worker:' .. worker_id, child_id) == 1 then see_worker(worker_id, now_ms) end
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
local now_ms, child_id, app_id, queue, limit, by_hint = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), (ARGV[6] ~= '')
if is_paused((app_id .. '\31' .. queue)) then return {0, hints, {}} end
local index = (prefix .. 'queue:' .. app_id .. ':' .. queue)
local unknown = {}
for unknown_ids_at = 8, 8 + ARGV[7] - 1 do
local function_id = ARGV[unknown_ids_at]

  unknown[function_id] = true
  unknown[function_id .. '\31'] = true
end
local function best_entry()
  local heads = redis.call('ZRANGE', index, 0, 2 * ARGV[7] + 1, 'WITHSCORES')
  local entry
  for i = 1, #heads, 2 do
    if not unknown[heads[i]] then
      if entry then return entry, tonumber(heads[i + 1]) end
      entry = heads[i]
    end
  end
  return entry, math.huge
end
local claimed, claims = {}, {}
local has_memos = {}
for replayed_ids_at = 8 + ARGV[7], #ARGV do
local run_id = ARGV[replayed_ids_at]
 has_memos[run_id] = true end
local function take_further(member, run_id, step_key, lane)
  local fence, packed = take_step(run_id, step_key, child_id)
  if not fence then return false end
  if lane then take_places(lane, member) end
  claims[#claims + 1] = member
  claims[#claims + 1] = fence
  claimed[#claimed + 1] = {run_id, step_key, fence, packed}
  if redis.call('HEXISTS', (prefix .. 'run:' .. run_id), 'watched') == 1 then tell_watchers(run_id) end
  return true
end
local function take_any(member, lane)
  local run_id, step_key = string.match(member, '^(.-)' .. '\31' .. '(.*)$')
  if has_memos[run_id] then return take_further(member, run_id, step_key, lane) end
  run_id = run_id or member
  local key = (prefix .. 'run:' .. run_id)
  local run = redis.call('HMGET', key, 'function', 'event', 'created', 'cause', 'fence', 'start_timeout_ms',
    'finish_timeout_ms', 'batched', 'kept', 'uid', 'watched', 'tied', 'expires')
  local fence, steps = tonumber(run[5] or 0) + 1, ''
  local past = run[5] and redis.call('HMGET', key, 'started', 'attempt', 'crashes', 'cancel', 'dirty') or {}
  local started = past[1]
  if run[13] and not started and tonumber(run[13]) <= tonumber(now_ms) then past[4] = '{"name":"RunExpired","message":"expired: it had not begun in time","stack":""}' end
  if step_key then
    fence = take_step(run_id, step_key, child_id)
    if not fence then return false end
    steps = redis.call('HGETALL', (prefix .. 'steps:' .. run_id))
    has_memos[run_id] = true
  elseif started then
    redis.call('HSET', key, 'status', 'running', 'by', child_id, 'fence', fence, 'claimed', now_ms)
    steps = redis.call('HGETALL', (prefix .. 'steps:' .. run_id))
    redis.call('DEL', (prefix .. 'joins:' .. run_id))
    if past[5] then redis.call('HDEL', key, 'dirty') end
  else
    local fields = {'status', 'running', 'by', child_id, 'fence', fence, 'started', now_ms}
    local limits = lane and count_start(run[1], lane, tonumber(now_ms))
    if limits and limits ~= lane then fields[9], fields[10] = 'lane', limits end
    redis.call('HSET', key, unpack(fields))
    if run[9] then steps = redis.call('HGETALL', (prefix .. 'steps:' .. run_id)) end
    if run[6] or run[7] then start_clocks(run_id, run[6], run[7], tonumber(now_ms)) end
  end
  if lane then take_places(lane, member) end
  claims[#claims + 1] = member
  if step_key then
    claims[#claims + 1] = fence
  else
    move_run(run[1], queue, 'queued', 'running')
    claims[#claims + 1] = (fence .. ((not (run[11] or run[12] or past[2] or past[3] or past[4])) and '' or '+') .. '\31' .. (run[1]) .. '\31' .. queue)
  end
  local more = run[8] and redis.call('LRANGE', (prefix .. 'batch:' .. run_id), 0, -1) or ''
  claimed[#claimed + 1] = {run_id, fence, run[1], ((run[2]) or event_text(((run[10]) or string.match(run_id, '^(%w+)%-') or ''))), tonumber(past[2] or 0),
    tonumber(started or now_ms), tonumber(run[3]), run[4] or 'event', tonumber(past[3] or 0), past[4] or '',
    steps, step_key or '', more}
  if run[11] then tell_watchers(run_id) end
  return true
end
local function take(member, fn, score)
  local key, dash = (prefix .. 'run:' .. member), string.find(member, '-', 1, true)
  local run = dash and redis.call('HMGET', key, 'tied', 'fence', 'watched', 'event')
  if not run or run[1] or run[2] or run[3] or string.find(member, '\31', 1, true) then return take_any(member) end
  local event = run[4] and {'', run[4]} or redis.call('HMGET', (prefix .. 'event:' .. (string.sub(member, 1, dash - 1))), 'frame', 'data')
  if not event[2] then return take_any(member) end
  redis.call('HSET', key, 'status', 'running', 'by', child_id, 'fence', '1', 'started', now_ms)
  move_run(fn, queue, 'queued', 'running')
  claims[#claims + 1] = member
  claims[#claims + 1] = (1 .. (true and '' or '+') .. '\31' .. fn .. '\31' .. queue)
  claimed[#claimed + 1] = {member, fn, event[1], event[2], score}
end
local left
local function take_ready(fn, turn_ends)
  local best = redis.call('ZRANGE', (prefix .. 'ready:' .. queue .. ':' .. fn), 0, limit - #claimed - 1, 'WITHSCORES')
  local taken = 0
  for i = 1, #best, 2 do
    if taken > 0 and tonumber(best[i + 1]) > turn_ends then break end
    take(best[i], fn, best[i + 1])
    taken = taken + 1
  end
  if taken > 0 then redis.call('ZREMRANGEBYRANK', (prefix .. 'ready:' .. queue .. ':' .. fn), 0, taken - 1) end
  local head = redis.call('ZRANGE', (prefix .. 'ready:' .. queue .. ':' .. fn), 0, 0, 'WITHSCORES')
  if head[1] then
    redis.call('ZADD', index, head[2], fn)
    left = fn
  else
    redis.call('ZREM', index, fn)
    if left == fn then left = nil end
  end
end
local function serve(fn, lane, turn, head)
  local full = full_limit(fn, lane)
  if full then return block_lane(queue, fn, lane, turn, full, tonumber(now_ms)) end
  local opens_ms = opens_at(fn, lane)
  if opens_ms > tonumber(now_ms) then
    redis.call('ZREM', (prefix .. 'lanes:' .. queue .. ':' .. fn), lane)
    return set_timer(opens_ms, 'lane' .. '\31' .. (queue .. '\31' .. fn .. '\31' .. lane))
  end
  redis.call('ZREM', ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. lane))), head)
  take_any(head, lane)
  if redis.call('EXISTS', ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. lane)))) == 1 then
    redis.call('ZADD', (prefix .. 'lanes:' .. queue .. ':' .. fn), string.format('%.3f', math.max(tonumber(turn) + 0.001, tonumber(now_ms))), lane)
  else
    redis.call('ZREM', (prefix .. 'lanes:' .. queue .. ':' .. fn), lane)
  end
end
local function next_lane(fn)
  local first = redis.call('ZRANGE', (prefix .. 'lanes:' .. queue .. ':' .. fn), 0, 0, 'WITHSCORES')
  if not first[1] then return nil end
  local head = redis.call('ZRANGE', ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. (first[1])))), 0, 0, 'WITHSCORES')
  return first[1], first[2], head[1], head[2]
end
local function take_from_lanes(fn, turn_ends)
  local before = #claimed
  local lane, turn, head, score = next_lane(fn)
  while lane and #claimed < limit and (#claimed == before or tonumber(score) <= turn_ends) do
    serve(fn, lane, turn, head)
    lane, turn, head, score = next_lane(fn)
  end
  if lane then redis.call('ZADD', index, score, fn .. '\31') else redis.call('ZREM', index, fn .. '\31') end
end
while #claimed < limit do
  local entry, turn_ends = best_entry()
  if not entry then break end
  if string.sub(entry, -1) == '\31' then take_from_lanes(string.sub(entry, 1, -2), turn_ends)
  else take_ready(entry, turn_ends) end
end
if claims[1] then
  note_claimant(child_id, now_ms)
  on_pages('HSET', (prefix .. 'claims:' .. child_id), claims)
end
local has_more = (left or best_entry()) and 1 or 0
if by_hint then
  if has_more == 1 and claimed[1] then hint(app_id, queue, tonumber(now_ms), true)
  elseif has_more == 0 and tonumber(ARGV[7]) > 0 and redis.call('EXISTS', index) == 1 then
    has_more = 2
    redis.call('HSET', prefix .. 'hints', app_id .. '\31' .. queue, now_ms)
  else redis.call('HDEL', prefix .. 'hints', app_id .. '\31' .. queue) end
end
return {has_more, hints, claimed}
end
local is_done, reply = pcall(main)
note_census()
if not is_done then error(reply, 0) end
return reply
