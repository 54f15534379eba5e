local prefix = KEYS[1]
local function on_keys(command, keys)
  local sum = 0
  for i = 1, #keys, 1000 do sum = sum + redis.call(command, unpack(keys, i, math.min(i + 1000 - 1, #keys))) end
  return sum
end
local function add_text(record, frame, body)
  local at = #record
  if frame == '' then record[at + 1], record[at + 2] = 'event', body
  else record[at + 1], record[at + 2], record[at + 3], record[at + 4] = 'frame', frame, 'data', body end
end
local function list_event(name, uid, at, now)
  local key = (prefix .. 'events:' .. name)
  if redis.call('XADD', key, 'NOMKSTREAM', at, 'u', uid) then return end
  redis.call('XADD', key, at, 'u', uid)
  redis.call('ZADD', prefix .. 'event_names', now, name)
end
local function known_fence(run_id, child_id)
  local known = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'function', 'by', 'fence', 'status')
  if not known[1] then return nil end
  return known[2] == child_id and known[4] == 'running' and tonumber(known[3]) or 0
end
local function short_run(uid, run_id)
  if string.sub(run_id, 1, #uid + 1) == uid .. '-' then return string.sub(run_id, #uid + 1) end
  return run_id
end
local paused_names
local function is_paused(name)
  if not paused_names then
    paused_names = {}
    for _, each in ipairs(redis.call('HKEYS', prefix .. 'paused')) do paused_names[each] = true end
  end
  return paused_names[name]
end
local has_ready = {}
local function is_first(fn, queue)
  local key = (prefix .. 'ready:' .. queue .. ':' .. fn)
  if has_ready[key] == nil then has_ready[key] = redis.call('EXISTS', key) == 1 end
  return not has_ready[key] and not is_paused(((string.match(fn, '^([^/]+)/')) .. '\31' .. queue))
end
local plain_claimed, plain_child, plain_now = {}, nil, nil
local counted, made_live, left_live, ended_rows = {}, {}, {}, {}
local function tally(fn, queue, status, difference)
  local field = fn .. '\31' .. queue .. '\31' .. status
  counted[field] = (counted[field] or 0) + difference
end
local function enter_census(run_id, fn, queue, status, created)
  tally(fn, queue, status, 1)
  local rows = made_live[fn]
  if not rows then
    rows = {}
    made_live[fn] = rows
  end
  local at = #rows
  rows[at + 1], rows[at + 2] = created, run_id
end
local plain_ready = {}
local function create_plain(run_id, fn, queue, version, child_id, now)
  local key, fence = (prefix .. 'run:' .. run_id), 0
  if child_id ~= '' and is_first(fn, queue) then
    redis.call('HSET', key, 'function', fn, 'created', now, 'version', version, 'status', 'running', 'by', child_id, 'fence', '1',
      'started', now)
    local at = #plain_claimed
    plain_claimed[at + 1], plain_claimed[at + 2] = run_id, (1 .. (true and '' or '+') .. '\31' .. fn .. '\31' .. queue)
    plain_child, plain_now, fence = child_id, now, 1
    enter_census(run_id, fn, queue, 'running', now)
  else
    redis.call('HSET', key, 'function', fn, 'created', now, 'version', version, 'status', 'queued')
    local queues = plain_ready[fn]
    if not queues then
      queues = {}
      plain_ready[fn] = queues
    end
    local rows = queues[queue]
    if not rows then
      rows = {}
      queues[queue], plain_now, has_ready[(prefix .. 'ready:' .. queue .. ':' .. fn)] = rows, now, true
    end
    local at = #rows
    rows[at + 1], rows[at + 2] = now, run_id
    enter_census(run_id, fn, queue, 'queued', now)
  end
  if queue ~= 'default' then redis.call('HSET', key, 'queue', queue) end
  return fence
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
local lookups_by_name = {}
local function lookups_of(name)
  local known = lookups_by_name[name]
  if known then return known end
  local lookups = {}
  lookups_by_name[name] = lookups
  if redis.call('EXISTS', prefix .. 'waitpaths:' .. name, prefix .. 'waitpatterns') == 0 then return lookups end
  local names = {name}
  for _, pattern in ipairs(redis.call('SMEMBERS', prefix .. 'waitpatterns')) do
    if pattern ~= name and string.sub(name, 1, #pattern - 1) == string.sub(pattern, 1, -2) then names[#names + 1] = pattern end
  end
  for _, each in ipairs(names) do
    for _, path in ipairs(redis.call('HKEYS', prefix .. 'waitpaths:' .. each)) do lookups[#lookups + 1] = each .. '\31' .. path end
  end
  return lookups
end
local hints, hinted = {}, {}
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
local expiring, expiring_at = {}, {}
local function note_expiry()
  for span, run_ids in pairs(expiring) do
    if on_pages('RPUSH', (prefix .. 'expiry:' .. span), run_ids) == #run_ids then
      redis.call('ZADD', prefix .. 'expiry', span * 10000, span)
    end
  end
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
local listed = {}
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
local function note_plain()
  if plain_child then
    note_claimant(plain_child, plain_now)
    on_pages('HSET', (prefix .. 'claims:' .. plain_child), plain_claimed)
  end
  for fn, queues in pairs(plain_ready) do
    for queue, rows in pairs(queues) do
      on_pages('ZADD', (prefix .. 'ready:' .. queue .. ':' .. fn), rows)
      list_function(queue, fn, fn, plain_now, tonumber(plain_now))
    end
  end
end
local made_create_run
local function late_create_run()
if made_create_run then return unpack(made_create_run) end
local function add_event(fields, run_id, text, uid)
  local at = #fields
  if not uid then
    fields[at + 1], fields[at + 2] = 'event', text
  elseif (nil or string.match(run_id, '^(%w+)%-') or '') ~= uid then
    fields[at + 1], fields[at + 2] = 'uid', uid
  end
end
local function add_origin(fields, run)
  if run.queue ~= 'default' then
    fields[#fields + 1] = 'queue'
    fields[#fields + 1] = run.queue
  end
  if run.cause ~= 'event' then
    fields[#fields + 1] = 'cause'
    fields[#fields + 1] = run.cause
  end
  add_event(fields, run.id, run.event, run.uid)
end
local function clear_timer(member) redis.call('ZREM', prefix .. 'timers', member) end
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
local function each_limit(lane, visit)
  for nth, limit in ipairs(parse_lane(lane).limits) do visit(limit, nth) end
end
local function is_full(limit, most) return most and redis.call('SCARD', (prefix .. 'places:' .. limit)) >= most end
local function full_limit(fn, lane)
  local limits, full = settings_of(fn).limits, nil
  each_limit(lane, function(limit, nth)
    if not full and is_full(limit, limits[nth]) then full = limit end
  end)
  return full
end
local function opens_at(fn, lane)
  local _, throttle = split_lane(lane)
  local tolerance_us = throttle and settings_of(fn).tolerance_us
  if not tolerance_us then return 0 end
  local due_us = redis.call('GET', (prefix .. 'throttle:' .. throttle))
  return due_us and math.ceil((tonumber(due_us) - tolerance_us) / 1000) or 0
end
local function may_start(fn, queue, lane, now_ms)
  if not lane then return is_first(fn, queue) end
  if is_paused(((string.match(fn, '^([^/]+)/')) .. '\31' .. queue)) then return false end
  return redis.call('EXISTS', (prefix .. 'lanes:' .. queue .. ':' .. fn), ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. lane)))) == 0 and not full_limit(fn, lane)
    and opens_at(fn, lane) <= now_ms
end
local function take_places(lane, holder)
  each_limit(lane, function(limit) redis.call('SADD', (prefix .. 'places:' .. limit), holder) end)
end
local function is_tied(run, lane, is_scored)
  return run.fields or lane or run.keep or is_scored or run.parent ~= '' or run.finish_timeout_ms > 0
    or run.start_timeout_ms > 0 or run.cause ~= 'event' or (nil or string.match(run.id, '^(%w+)%-') or '') ~= run.uid
end
local function tie(fields, run, lane, now)
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  for _, part in ipairs(run.fields or {}) do fields[#fields + 1] = part end
  if lane then add('lane', lane) end
  if run.parent ~= '' then
    add('parent', run.parent)
    redis.call('ZADD', (prefix .. 'children:' .. ((string.match(run.parent, '^(.-)' .. '\31' .. '(.*)$')))), now, run.id)
  end
  if run.finish_timeout_ms > 0 then add('finish_timeout_ms', run.finish_timeout_ms) end
  if run.start_timeout_ms > 0 then add('start_timeout_ms', run.start_timeout_ms) end
  if run.keep then add('keep', run.keep) end
  add('tied', (run.fields or run.parent ~= '' or run.finish_timeout_ms > 0 or run.start_timeout_ms > 0) and 'more' or 'lane')
end
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
local function serve_lane(queue, fn, lane, turn, now_ms, silent)
  local head = redis.call('ZRANGE', ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. lane))), 0, 0, 'WITHSCORES')
  if not head[1] then return end
  redis.call('ZADD', (prefix .. 'lanes:' .. queue .. ':' .. fn), turn, lane)
  list_function(queue, fn, fn .. '\31', head[2], now_ms, silent)
end
local function make_lane_ready(member, fn, queue, lane, score, now_ms, silent)
  local key = ((prefix .. 'ready:' .. queue .. ':' .. (fn .. '\31' .. lane)))
  local is_listed = redis.call('EXISTS', key) == 1
  redis.call('ZADD', key, score, member)
  if not is_listed then serve_lane(queue, fn, lane, score, now_ms, silent) end
end
local function make_ready(member, fn, queue, lane, score, now_ms, silent)
  if lane and lane ~= '' then return make_lane_ready(member, fn, queue, lane, score, now_ms, silent) end
  local key = (prefix .. 'ready:' .. queue .. ':' .. fn)
  redis.call('ZADD', key, score, member)
  has_ready[key] = true
  list_function(queue, fn, fn, score, now_ms, silent)
end
local made_admit
local function late_admit()
if made_admit then return made_admit end
local FINAL = {['completed'] = true, ['failed'] = true, ['cancelled'] = true, ['skipped'] = true}
local PENDING = {wait = true, retry = true, offer = true, taken = true}
local function each_wait(op, visit)
  for _, name in ipairs(op.events) do visit(name, op.path or '', op.token or '') end
end
local function add_wait(op, member)
  each_wait(op, function(name, path, token)
    if redis.call('SADD', prefix .. 'waits:' .. name .. ':' .. token, member) == 1 then
      redis.call('HINCRBY', prefix .. 'waitpaths:' .. name, path, 1)
      if (string.sub(name, -1) == '*') then redis.call('SADD', prefix .. 'waitpatterns', name) end
    end
  end)
end
local function add_cancels(run_id, cancels, seq, made_ms)
  seq = tonumber(seq or redis.call('GET', prefix .. 'seq') or 0)
  for place, each in ipairs(cancels) do
    each.seq, each.until_ms, each.timeout_ms = seq, each.timeout_ms and made_ms + each.timeout_ms, nil
    add_wait(each, ('\31' .. run_id .. '\31' .. place))
  end
  return cmsgpack.pack(cancels)
end
local function add_field(run, name, value)
  run.fields = run.fields or {}
  run.fields[#run.fields + 1] = name
  run.fields[#run.fields + 1] = value
end
local function keep_until(run_id, remove_at_ms)
  local run_ids = expiring_at[remove_at_ms]
  if not run_ids then
    local span = math.ceil(remove_at_ms / 10000)
    run_ids = expiring[span] or {}
    expiring[span], expiring_at[remove_at_ms] = run_ids, run_ids
  end
  run_ids[#run_ids + 1] = run_id
end
local function kept_for(fn, status, keep)
  local all_ms, failed_ms = string.match(keep or '', '^(%d*) (%d*)$')
  local own_ms = tonumber(status == 'failed' and failed_ms or status ~= 'failed' and all_ms or nil)
  if own_ms then return own_ms end
  local app = redis.call('HMGET', (prefix .. 'app:' .. (string.match(fn, '^([^/]+)/'))), 'retention_ms', 'failed_retention_ms')
  return status == 'failed' and tonumber(app[2] or 7 * 86400000) or tonumber(app[1] or 86400000)
end
local function note_ended(run_id, fn, status, created, now_ms)
  local at = #ended_rows
  ended_rows[at + 1], ended_rows[at + 2] = run_id, status
  census_ms = now_ms
  if status ~= 'completed' then redis.call('ZADD', (prefix .. 'runs:' .. fn .. '\31' .. status), created, run_id) end
end
local function unlist_function(queue, fn, member)
  listed[queue .. '\31' .. member] = nil
  redis.call('ZREM', (prefix .. 'queue:' .. (string.match(fn, '^([^/]+)/')) .. ':' .. queue), member)
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
local function move_run(fn, queue, from, to)
  tally(fn, queue, from, -1)
  tally(fn, queue, to, 1)
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
local function skip_run(run, reason, now_ms)
  local fields = {'function', run.fn, 'created', now_ms, 'version', run.version, 'status', 'skipped', 'ended', now_ms,
    'skipped', reason}
  add_origin(fields, run)
  redis.call('HSET', (prefix .. 'run:' .. run.id), unpack(fields))
  redis.call('ZADD', (prefix .. 'runs:' .. run.fn), now_ms, run.id)
  keep_until(run.id, now_ms + kept_for(run.fn, 'skipped', run.keep))
  note_ended(run.id, run.fn, 'skipped', now_ms, now_ms)
  if run.parent ~= '' then
    redis.call('HSET', (prefix .. 'run:' .. run.id), 'parent', run.parent)
    local parent_id, step_key = string.match(run.parent, '^(.-)' .. '\31' .. '(.*)$')
    redis.call('ZADD', (prefix .. 'children:' .. parent_id), now_ms, run.id)
    local message = 'run ' .. run.id .. ' of ' .. run.fn .. ' was skipped: ' .. reason
    resolve(parent_id, step_key, {error = {name = 'RunSkipped', message = message, stack = ''}}, now_ms)
  end
end
local function idempotency_refusal(fn, id, now_ms)
  local known = redis.call('HMGET', prefix .. 'idempotency:' .. id, 'run', 'until')
  if not known[1] or tonumber(known[2]) <= now_ms then return nil end
  return 'idempotency: ' .. string.sub(id, #fn + 2) .. ' has run as ' .. known[1]
end
local function gcra_due(text, now_ms)
  local due_ms, parts = string.match(text or '', '^(%d+) (%d+)')
  if due_ms and tonumber(due_ms) >= now_ms then return tonumber(due_ms), tonumber(parts) end
  return now_ms, 0
end
local function gcra_wait(due_ms, parts, count, limit, period_ms, now_ms)
  local early = (due_ms - now_ms) * limit + parts - period_ms * (limit - count)
  return early > 0 and math.ceil(early / limit) or 0
end
local function key_text(fn, id)
  local token = string.sub(id, #fn + 2)
  return token == '' and '' or ' for key ' .. token
end
local function rate_refusal(fn, rate, now_ms)
  local id, period_ms, limit = rate[1], rate[2], rate[3]
  local due_ms, parts = gcra_due(redis.call('GET', (prefix .. 'rate:' .. id)), now_ms)
  if gcra_wait(due_ms, parts, 1, limit, period_ms, now_ms) > 0 then
    return 'rate limit: ' .. limit .. ' in ' .. period_ms / 1000 .. ' s' .. key_text(fn, id)
  end
  rate.due_ms, rate.parts = due_ms, parts
end
local function singleton_holder(id, run_id)
  local held = redis.call('HMGET', (prefix .. 'singleton:' .. id), 'run', 'next')
  if not held[1] or held[1] == run_id then return nil end
  local status = redis.call('HGET', (prefix .. 'run:' .. (held[1])), 'status')
  if not status or FINAL[status] then return nil end
  return held[1], held[2]
end
local function singleton_refusal(fn, single, run_id)
  local holder = single[2] == 'skip' and singleton_holder(single[1], run_id)
  return holder and 'singleton: run ' .. holder .. ' is live' .. key_text(fn, single[1]) or nil
end
local function event_json(uid, frame, body)
  if not frame or frame == '' then return body end
  local ts, name = string.match(frame, '^(%d+)' .. '\31' .. '(.*)$')
  return '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"' .. name .. '","data":' .. body .. ',"ts":' .. ts .. '}'
end
local function leave_census(run_id, fn, queue, from)
  tally(fn, queue, from, -1)
  local run_ids = left_live[fn]
  if not run_ids then
    run_ids = {}
    left_live[fn] = run_ids
  end
  run_ids[#run_ids + 1] = run_id
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
local function remove_cancels(run_id, field)
  for place, each in ipairs(cmsgpack.unpack(field)) do remove_wait(each, ('\31' .. run_id .. '\31' .. place)) end
end
local function sweep_operations(run_id, now_ms)
  redis.call('DEL', (prefix .. 'joins:' .. run_id))
  local steps = redis.call('HGETALL', (prefix .. 'steps:' .. run_id))
  local timers, dropped = {}, {}
  for i = 1, #steps, 2 do
    local op = cmsgpack.unpack(steps[i + 1])
    if (PENDING[op.state]) then
      if op.due then timers[#timers + 1] = ('op' .. '\31' .. run_id .. '\31' .. (steps[i])) end
      op.due = nil
      unlist(run_id, steps[i], op, now_ms)
      op.state = 'dropped'
      dropped[#dropped + 1], dropped[#dropped + 2] = steps[i], cmsgpack.pack(op)
    end
  end
  on_pages('ZREM', prefix .. 'timers', timers)
  on_pages('HSET', (prefix .. 'steps:' .. run_id), dropped)
end
local function leave_singleton(id, run_id, now_ms)
  local key = (prefix .. 'singleton:' .. id)
  local held = redis.call('HMGET', key, 'run', 'next')
  if held[2] == run_id then redis.call('HDEL', key, 'next') end
  if held[1] ~= run_id then return end
  local next_id = held[2]
  if not next_id then return redis.call('DEL', key) end
  redis.call('HSET', key, 'run', next_id)
  redis.call('HDEL', key, 'next')
  local run = redis.call('HMGET', (prefix .. 'run:' .. next_id), 'function', 'queue', 'score', 'lane', 'created')
  redis.call('HSET', (prefix .. 'run:' .. next_id), 'status', 'queued')
  move_run(run[1], run[2] or 'default', 'scheduled', 'queued')
  redis.call('HDEL', (prefix .. 'run:' .. next_id), 'behind')
  make_ready(next_id, run[1], run[2] or 'default', run[4], tonumber(run[3] or run[5]), now_ms)
end
local function final_uid(run_id, status, now_ms)
  local time, rest = '', now_ms
  for _ = 1, 10 do
    local digit = rest % 32
    time = string.sub('0123456789ABCDEFGHJKMNPQRSTVWXYZ', digit + 1, digit + 1) .. time
    rest = (rest - digit) / 32
  end
  local secret = redis.call('GET', prefix .. 'secret') or ''
  return time .. string.upper(string.sub(redis.sha1hex(secret .. run_id .. ':' .. status), 1, 16))
end
local function inherited_headers(event)
  if not string.find(event, '"headers":', 1, true) then return '' end
  local headers = cjson.decode(event).headers
  return headers and ',"headers":' .. cjson.encode(headers) or ''
end
local function tell_end(run_id, fn, status, event, error, now_ms)
  local uid = final_uid(run_id, status, now_ms)
  local data = '{"function_id":"' .. fn .. '","run_id":"' .. run_id .. '","error":' .. error .. ',"event":' .. event .. '}'
  local text = '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"taskflow/function.' .. status .. '","data":' .. data
    .. ',"ts":' .. string.format('%.0f', now_ms) .. inherited_headers(event) .. '}'
  redis.call('ZADD', prefix .. 'outbox', now_ms, uid)
  redis.call('HSET', prefix .. 'outbox:events', uid, text)
  hints[#hints + 1] = '\31' .. uid
  hints[#hints + 1] = text
end
local function event_text(uid)
  local kept = redis.call('HMGET', (prefix .. 'event:' .. uid), 'frame', 'data', 'event')
  return event_json(uid, kept[1], kept[2] or kept[3]) or nil
end
local function finalize(run_id, status, body, has_pending, now_ms)
  local key = (prefix .. 'run:' .. run_id)
  local run = redis.call('HMGET', key, 'status', 'function', 'queue', 'by', 'parent', 'start_timeout_ms', 'finish_timeout_ms',
    'lane', 'gathers', 'single', 'cancels', 'event', 'uid', 'keep', 'created')
  local fn, queue = run[2], run[3] or 'default'
  leave_census(run_id, fn, queue, run[1])
  note_ended(run_id, fn, status, run[15], now_ms)
  if run[1] == 'queued' then remove_ready(run_id, fn, queue, run[8], now_ms) end
  if run[1] == 'scheduled' or run[1] == 'waiting' then clear_timer('start' .. '\31' .. run_id) end
  if run[1] == 'running' then
    redis.call('HDEL', (prefix .. 'claims:' .. (run[4])), run_id)
    free_place(run[8], run_id, now_ms)
  end
  if run[6] then clear_timer('start_timeout' .. '\31' .. run_id) end
  if run[7] then clear_timer('finish_timeout' .. '\31' .. run_id) end
  if run[9] then redis.call('DEL', prefix .. run[9]) end
  if run[11] then
    remove_cancels(run_id, run[11])
    redis.call('HDEL', key, 'cancels')
  end
  if has_pending then sweep_operations(run_id, now_ms) end
  redis.call('HSET', key, 'status', status, 'ended', now_ms, status == 'completed' and 'output' or 'error', body)
  keep_until(run_id, now_ms + kept_for(fn, status, run[14]))
  if run[5] then
    local parent_id, step_key = string.match((run[5]), '^(.-)' .. '\31' .. '(.*)$')
    if status == 'completed' then
      resolve(parent_id, step_key, {data = body}, now_ms, 'invoke', run_id)
    else
      local cause = cjson.decode(body)
      local error = {name = cause.name, message = cause.message, stack = cause.stack}
      resolve(parent_id, step_key, {error = error}, now_ms, 'invoke', run_id)
    end
  end
  if run[10] then leave_singleton(run[10], run_id, now_ms) end
  if status == 'failed' or status == 'cancelled' then
    tell_end(run_id, fn, status, ((run[12]) or event_text(((run[13]) or string.match(run_id, '^(%w+)%-') or ''))) or 'null', body, now_ms)
  end
  redis.call('PUBLISH', (prefix .. 'done:' .. run_id), status)
end
local function skip_scheduled(run_id, reason, now_ms)
  local message = 'run ' .. run_id .. ' was skipped: ' .. reason
  finalize(run_id, 'skipped', cjson.encode({name = 'RunSkipped', message = message, stack = ''}), true, now_ms)
  redis.call('HDEL', (prefix .. 'run:' .. run_id), 'error')
  redis.call('HSET', (prefix .. 'run:' .. run_id), 'skipped', reason)
end
local plain_claims = {}
local function plain_claim(text)
  local known = plain_claims[text]
  if known == nil then
    local fence, fn, queue = string.match(text, '^(%d+)' .. '\31' .. '(.-)' .. '\31' .. '(.*)$')
    known = fence and {fence, fn, queue}
    plain_claims[text] = known or false
  end
  return known
end
local function mark_claim(run_id, child_id)
  local text = redis.call('HGET', (prefix .. 'claims:' .. child_id), run_id)
  local claim = text and plain_claim(text)
  if claim then redis.call('HSET', (prefix .. 'claims:' .. child_id), run_id, ((claim[1]) .. (false and '' or '+') .. '\31' .. (claim[2]) .. '\31' .. (claim[3]))) end
end
local function cancel(run_id, reason, now_ms)
  local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'status', 'by')
  if not run[1] then return 'unknown' end
  if FINAL[run[1]] then return 'final' end
  if run[1] == 'running' then
    redis.call('HSETNX', (prefix .. 'run:' .. run_id), 'cancel', reason)
    mark_claim(run_id, run[2])
    redis.call('PUBLISH', (prefix .. 'child:' .. (run[2])), 'cancel' .. '\31' .. run_id)
    return 'requested'
  end
  finalize(run_id, 'cancelled', reason, true, now_ms)
  return 'cancelled'
end
local function enter_singleton(single, run_id, now_ms)
  local id = single[1]
  local holder, waiting = singleton_holder(id, run_id)
  if holder and waiting == run_id then return holder end
  if holder then
    local message = 'run ' .. run_id .. ' of the same singleton has come'
    local reason = cjson.encode({name = 'Cancelled', message = message, stack = ''})
    if waiting then cancel(waiting, reason, now_ms) end
    if cancel(holder, reason, now_ms) == 'requested' then
      redis.call('HSET', (prefix .. 'singleton:' .. id), 'next', run_id)
      return holder
    end
  end
  redis.call('HSET', (prefix .. 'singleton:' .. id), 'run', run_id)
end
local function start_scheduled(run_id, now_ms)
  local key = (prefix .. 'run:' .. run_id)
  local run = redis.call('HMGET', key, 'status', 'function', 'queue', 'score', 'lane', 'gathers', 'single', 'single_mode',
    'start_timeout_ms', 'created', 'watched')
  if run[1] ~= 'scheduled' and run[1] ~= 'waiting' then return end
  if run[6] then
    redis.call('DEL', prefix .. run[6])
    clear_timer('start' .. '\31' .. run_id)
    if run[9] then set_timer(now_ms + tonumber(run[9]), 'start_timeout' .. '\31' .. run_id) end
  end
  redis.call('HDEL', key, 'due', 'gathers')
  if run[7] and run[1] == 'scheduled' then
    local single = {run[7], run[8]}
    local refusal = singleton_refusal(run[2], single, run_id)
    if refusal then return skip_scheduled(run_id, refusal, now_ms) end
    local behind = enter_singleton(single, run_id, now_ms)
    if behind then return redis.call('HSET', key, 'behind', behind) end
  end
  redis.call('HSET', key, 'status', 'queued')
  move_run(run[2], run[3] or 'default', run[1], 'queued')
  make_ready(run_id, run[2], run[3] or 'default', run[5], tonumber(run[4] or run[10]), now_ms)
  if run[11] then tell_watchers(run_id) end
end
local function join_batch(run, batch, now_ms)
  local text = event_json(run.uid, run.frame, run.event)
  local name, size, bytes = 'batching:' .. batch[1], batch[2], #text
  local run_id = redis.call('GET', prefix .. name)
  local open = run_id and redis.call('HMGET', (prefix .. 'run:' .. run_id), 'due', 'batched', 'bytes')
  if open and tonumber(open[1]) <= now_ms then
    start_scheduled(run_id, now_ms)
    open = nil
  end
  if not open then
    if bytes >= 4194304 then return nil end
    run.start_at_ms = now_ms + batch[3]
    run.fields = {'gathers', name, 'due', run.start_at_ms, 'batched', 1, 'batch_size', size, 'bytes', bytes}
    redis.call('SET', prefix .. name, run.id)
    return nil
  end
  local count = tonumber(open[2]) + 1
  bytes = bytes + tonumber(open[3])
  redis.call('RPUSH', (prefix .. 'batch:' .. run_id), text)
  redis.call('HSET', (prefix .. 'run:' .. run_id), 'batched', count, 'batch_size', size, 'bytes', bytes)
  if count >= size or bytes >= 4194304 then
    redis.call('HSET', (prefix .. 'run:' .. run_id), 'score', now_ms)
    start_scheduled(run_id, now_ms)
  end
  return run_id
end
local function debounce_due(debounce, first_ms, start_at, now_ms)
  local due_ms = now_ms + debounce[2]
  if debounce[3] > 0 then due_ms = math.min(due_ms, first_ms + debounce[3]) end
  return math.max(due_ms, start_at)
end
local function set_debounced_event(run, run_id, flow)
  local fields = {'version', run.version}
  redis.call('HDEL', (prefix .. 'run:' .. run_id), 'event', 'uid')
  add_event(fields, run_id, run.event, run.uid)
  redis.call('HSET', (prefix .. 'run:' .. run_id), unpack(fields))
  if flow.lane then redis.call('HSET', (prefix .. 'run:' .. run_id), 'lane', flow.lane) end
  if flow.single then redis.call('HSET', (prefix .. 'run:' .. run_id), 'single', flow.single[1], 'single_mode', flow.single[2]) end
  local old = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'cancels', 'created')
  if old[1] then remove_cancels(run_id, old[1]) end
  if flow.cancels then
    redis.call('HSET', (prefix .. 'run:' .. run_id), 'cancels', add_cancels(run_id, flow.cancels, run.seq, tonumber(old[2])))
  elseif old[1] then
    redis.call('HDEL', (prefix .. 'run:' .. run_id), 'cancels')
  end
end
local function join_debounce(run, flow, now_ms)
  local debounce = flow.debounce
  local name, ts, uid = 'debounce:' .. debounce[1], debounce[4], debounce[5]
  local window = redis.call('HMGET', prefix .. name, 'run', 'first', 'due', 'ts', 'uid', 'start_at', 'last')
  local run_id = window[1]
  if run_id and tonumber(window[3]) <= now_ms then
    start_scheduled(run_id, now_ms)
    run_id = nil
  end
  if not run_id then
    local due_ms = debounce_due(debounce, now_ms, run.start_at_ms, now_ms)
    redis.call('HSET', prefix .. name, 'run', run.id, 'first', now_ms, 'last', now_ms, 'due', due_ms, 'ts', ts, 'uid', uid,
      'start_at', run.start_at_ms)
    run.start_at_ms, run.fields = due_ms, {'gathers', name, 'due', due_ms}
    return nil
  end
  local last_ts, last_uid, start_at, text = tonumber(window[4]), window[5], tonumber(window[6]), run_id
  if ts > last_ts or ts == last_ts and uid >= last_uid then
    start_at = run.start_at_ms
    set_debounced_event(run, run_id, flow)
    redis.call('HSET', prefix .. name, 'ts', ts, 'uid', uid, 'start_at', start_at)
    if redis.call('EXISTS', (prefix .. 'event:' .. last_uid)) == 1 then
      redis.call('HSET', (prefix .. 'event:' .. last_uid), 'fn:' .. run.fn, ('debounced: run ' .. run_id .. ' has a later event'))
    end
  else
    text = ('debounced: run ' .. run_id .. ' has a later event')
  end
  local last_ms = math.max(tonumber(window[7] or 0), now_ms)
  local due_ms = debounce_due(debounce, tonumber(window[2]), start_at, last_ms)
  redis.call('HSET', prefix .. name, 'due', due_ms, 'last', last_ms)
  redis.call('HSET', (prefix .. 'run:' .. run_id), 'due', due_ms, 'score', due_ms - (flow.ahead or 0))
  set_timer(due_ms, 'start' .. '\31' .. run_id)
  if run.start_timeout_ms > 0 then set_timer(due_ms + run.start_timeout_ms, 'start_timeout' .. '\31' .. run_id) end
  return run_id, text
end
local function note_idempotency(id, run_id, now_ms)
  redis.call('HSET', prefix .. 'idempotency:' .. id, 'run', run_id, 'until', now_ms + 86400000)
  redis.call('PEXPIRE', prefix .. 'idempotency:' .. id, 86400000 + 3600000)
end
local function gcra_after(due_ms, parts, count, limit, period_ms)
  local sum = parts + period_ms * count
  return due_ms + math.floor(sum / limit), sum % limit
end
local function count_rate(rate, now_ms)
  local due_ms, parts = gcra_after(rate.due_ms, rate.parts, 1, rate[3], rate[2])
  redis.call('SET', (prefix .. 'rate:' .. (rate[1])), string.format('%.0f %.0f', due_ms, parts), 'PX', due_ms - now_ms + 3600000)
end
local function make_single(run, single, is_scheduled, now_ms)
  add_field(run, 'single', single[1])
  add_field(run, 'single_mode', single[2])
  run.behind = not is_scheduled and enter_singleton(single, run.id, now_ms)
  if run.behind then add_field(run, 'behind', run.behind) end
end
local function admit(run, flow, now_ms)
  if is_paused(run.fn) and not run.rerun_of then
    skip_run(run, 'paused', now_ms)
    return 'skipped: paused'
  end
  if not flow then return nil end
  local is_delayed = run.start_at_ms > now_ms
  local is_scheduled = is_delayed or
    flow.batch
    or flow.debounce
  local reason =
    flow.idem and idempotency_refusal(run.fn, flow.idem, now_ms)
    or flow.rate and rate_refusal(run.fn, flow.rate, now_ms)
    or flow.single and not is_scheduled and singleton_refusal(run.fn, flow.single, run.id)
  if reason then
    skip_run(run, reason, now_ms)
    return 'skipped: ' .. reason
  end
  local landed, text
  if flow.batch and not is_delayed then landed = join_batch(run, flow.batch, now_ms) end
  if flow.debounce then landed, text = join_debounce(run, flow, now_ms) end
  if flow.idem then note_idempotency(flow.idem, landed or run.id, now_ms) end
  if flow.rate then count_rate(flow.rate, now_ms) end
  if landed then return text or landed end
  if flow.cancels then add_field(run, 'cancels', add_cancels(run.id, flow.cancels, run.seq, now_ms)) end
  if flow.single then make_single(run, flow.single, is_scheduled, now_ms) end
  return nil
end
made_admit = admit
return admit
end
local function create_run(run, child_id, now)
  local key, now_ms = (prefix .. 'run:' .. run.id), tonumber(now)
  local flow = run.flow ~= '' and cmsgpack.unpack(run.flow)
  run.keep = flow and flow.keep
  local is_limited = flow and (
    flow.batch
    or flow.cancels
    or flow.debounce
    or flow.idem
    or flow.rate
    or flow.single
  )
  if is_limited or is_paused(run.fn) then
    local admit = late_admit()
    local landed = admit(run, flow, now_ms)
    if landed then return 0, landed end
  end
  local lane = flow and flow.lane
  local is_delayed = run.start_at_ms > now_ms
  local score = is_delayed and run.start_at_ms or now
  if flow and flow.ahead then score = score - flow.ahead end
  local is_claimed = child_id ~= '' and not is_delayed and not run.behind and may_start(run.fn, run.queue, lane, now_ms)
  if is_claimed and lane then
    lane = count_start(run.fn, lane, now_ms)
    take_places(lane, run.id)
  end
  local status = is_claimed and 'running' or (is_delayed or run.behind) and 'scheduled' or 'queued'
  enter_census(run.id, run.fn, run.queue, status, now)
  local fields = {'function', run.fn, 'created', now, 'version', run.version, 'status', status}
  add_origin(fields, run)
  if score ~= now then
    fields[#fields + 1] = 'score'
    fields[#fields + 1] = score
  end
  if is_claimed then
    for _, part in ipairs({'by', child_id, 'fence', '1', 'started', now}) do fields[#fields + 1] = part end
  end
  local tied = is_tied(run, lane, score ~= now)
  if tied then tie(fields, run, lane, now) end
  redis.call('HSET', key, unpack(fields))
  if is_claimed then
    note_claimant(child_id, now_ms)
    redis.call('HSET', (prefix .. 'claims:' .. child_id), run.id, (1 .. ((not tied) and '' or '+') .. '\31' .. run.fn .. '\31' .. run.queue))
    start_clocks(run.id, nil, run.finish_timeout_ms > 0 and run.finish_timeout_ms, now_ms)
    return 1
  end
  local due_ms = is_delayed and run.start_at_ms or now_ms
  if run.start_timeout_ms > 0 then set_timer(due_ms + run.start_timeout_ms, 'start_timeout' .. '\31' .. run.id) end
  if is_delayed then
    set_timer(run.start_at_ms, 'start' .. '\31' .. run.id)
  elseif not run.behind then
    make_ready(run.id, run.fn, run.queue, lane, score, now_ms)
  end
  return 0
end
local function create_run_once(run, child_id, now)
  local fence = known_fence(run.id, child_id)
  if fence then return fence end
  return create_run(run, child_id, now)
end
made_create_run = {create_run, create_run_once}
return create_run, create_run_once
end
local function main()
local now_ms, child_id, free, version, app_id, edition = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local DEDUPE_MS = 86400000
local app_field = 'app:' .. app_id
local function is_duplicate(public_id, name, uid)
  local dedupe = prefix .. 'event_id:' .. public_id
  local known = redis.call('HGET', dedupe, name)
  local until_ms, first = string.match(known or '', '^(%d+):(.*)$')
  if first and first ~= uid and tonumber(until_ms) > tonumber(now_ms) then return true, first end
  if first ~= uid then
    redis.call('HSET', dedupe, name, string.format('%d:%s', tonumber(now_ms) + DEDUPE_MS, uid))
    redis.call('PEXPIRE', dedupe, DEDUPE_MS + 3600000)
  end
  return false
end
local function ignores_ids(flow)
  local limits = flow ~= '' and cmsgpack.unpack(flow)
  return limits and (limits.debounce or limits.batch)
end
if edition ~= '' and redis.call('EXISTS', (prefix .. 'edition:' .. app_id .. '\31' .. edition)) == 0 then return {'changed'} end
local keys = {}
local events_next = 7
while events_next <= #ARGV do
local events_at = events_next
events_next = events_at + 6 + ARGV[events_at + 5] * 8
local uid = ARGV[events_at]
 keys[#keys + 1] = (prefix .. 'event:' .. uid) end
local event_count = #keys
local any_known = on_keys('EXISTS', keys) > 0
local next_seq, last_seq = 1, 0
local function take_seq(left)
  if next_seq > last_seq then
    last_seq = redis.call('INCRBY', prefix .. 'seq', left)
    next_seq = last_seq - left + 1
  end
  next_seq = next_seq + 1
  return next_seq - 1
end
local met = {}
local function has_functions(key)
  local start = 'fn:' .. app_id .. '/'
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, #start) == start then return true end
  end
  return false
end
local outcomes, claimed, names = {}, {}, {}
local function route(uid, public_id, name, frame, body, runs, left)
  local key = (prefix .. 'event:' .. uid)
  local seq, is_new = nil, true
  if any_known or met[uid] then
    local known = redis.call('HMGET', key, 'at', app_field)
    seq, is_new = known[1] and tonumber(string.match(known[1], '^%d+')), not known[2] and not has_functions(key)
  end
  met[uid] = true
  local record = {}
  if not seq then
    seq = take_seq(left)
    local at = seq .. '-' .. now_ms
    record = {'at', at}
    add_text(record, frame, body)
    list_event(name, uid, at, now_ms)
  end
  local duplicate, first, is_taken
  if public_id ~= '' then duplicate, first = is_duplicate(public_id, name, uid) end
  if duplicate then
    record[#record + 1] = 'duplicate_of'
    record[#record + 1] = first
  else
    names[name] = true
  end
  for runs_at = runs, runs + ARGV[runs - 1] * 8 - 1, 8 do
local function_id, queue, run_id, start_at_ms, start_timeout_ms, finish_timeout_ms, flow, is_claimable = ARGV[runs_at], ARGV[runs_at + 1], ARGV[runs_at + 2], ARGV[runs_at + 3], ARGV[runs_at + 4], ARGV[runs_at + 5], ARGV[runs_at + 6], (ARGV[runs_at + 7] ~= '')

    local is_decided = not is_new and redis.call('HEXISTS', key, 'fn:' .. function_id) == 1
    local fence, landed = 0, nil
    if is_decided then
      fence = free > 0 and known_fence(run_id, child_id) or 0
    elseif not duplicate or ignores_ids(flow) then
      local short, claimer = short_run(uid, run_id), free > 0 and is_claimable and child_id or ''
      local is_plain = is_new and flow == '' and short ~= run_id and start_at_ms == '0' and start_timeout_ms == '0'
        and finish_timeout_ms == '0' and not is_paused(function_id)
      if is_plain then
        fence = create_plain(run_id, function_id, queue, version, claimer, now_ms)
      else
        local create_run, create_run_once = late_create_run()
        fence, landed = (is_new and create_run or create_run_once)({
          id = run_id, fn = function_id, queue = queue, event = body, frame = frame, cause = 'event', version = version,
          parent = '', start_at_ms = tonumber(start_at_ms), start_timeout_ms = tonumber(start_timeout_ms),
          finish_timeout_ms = tonumber(finish_timeout_ms), flow = flow, seq = seq, uid = uid,
        }, claimer, now_ms)
      end
      is_taken = true
      record[#record + 1] = 'fn:' .. function_id
      record[#record + 1] = landed and short_run(uid, landed) or short
    end
    if fence > 0 then
      free = free - 1
      claimed[#claimed + 1] = run_id
      claimed[#claimed + 1] = fence
    end
  end
  if is_new and not is_taken then
    record[#record + 1] = app_field
    record[#record + 1] = 1
  end
  if record[1] then on_pages('HSET', key, record) end
  outcomes[#outcomes + 1] = duplicate and 'duplicate' or 'routed'
  outcomes[#outcomes + 1] = seq
end
local left = event_count
local events_next = 7
while events_next <= #ARGV do
local events_at = events_next
events_next = events_at + 6 + ARGV[events_at + 5] * 8
local uid, public_id, name, frame, body, runs = ARGV[events_at], ARGV[events_at + 1], ARGV[events_at + 2], ARGV[events_at + 3], ARGV[events_at + 4], events_at + 6

  route(uid, public_id, name, frame, body, runs, left)
  left = left - 1
end
local lookups = {}
for name in pairs(names) do
  local found = lookups_of(name)
  if found[1] then
    lookups[#lookups + 1] = name
    lookups[#lookups + 1] = #found
    for _, lookup in ipairs(found) do lookups[#lookups + 1] = lookup end
  end
end
return {hints, outcomes, claimed, lookups}
end
local is_done, reply = pcall(main)
note_census()
note_expiry()
note_plain()
if not is_done then error(reply, 0) end
return reply
