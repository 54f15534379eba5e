local prefix = KEYS[1]
local hints, hinted = {}, {}
local FINAL = {['completed'] = true, ['failed'] = true, ['cancelled'] = true, ['skipped'] = true}
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
local counted, made_live, left_live, ended_rows = {}, {}, {}, {}
local function tally(fn, queue, status, difference)
  local field = fn .. '\31' .. queue .. '\31' .. status
  counted[field] = (counted[field] or 0) + difference
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
local census_ms
local function note_ended(run_id, fn, status, created, now_ms)
  local at = #ended_rows
  ended_rows[at + 1], ended_rows[at + 2] = run_id, status
  census_ms = now_ms
  if status ~= 'completed' then redis.call('ZADD', (prefix .. 'runs:' .. fn .. '\31' .. status), created, run_id) end
end
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
local function on_pages(command, key, items, first, last)
  first, last = first or 1, last or #items
  if last - first < 1000 and first <= last then return redis.call(command, key, unpack(items, first, last)) end
  local sum = 0
  for i = first, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
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
local function remove_cancels(run_id, field)
  for place, each in ipairs(cmsgpack.unpack(field)) do remove_wait(each, ('\31' .. run_id .. '\31' .. place)) end
end
local PENDING = {wait = true, retry = true, offer = true, taken = true}
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
local expiring, expiring_at = {}, {}
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
local function event_json(uid, frame, body)
  if not frame or frame == '' then return body end
  local ts, name = string.match(frame, '^(%d+)' .. '\31' .. '(.*)$')
  return '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"' .. name .. '","data":' .. body .. ',"ts":' .. ts .. '}'
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
local function end_bulk(bulk_id, status, now_ms)
  redis.call('HSET', (prefix .. 'bulk:' .. bulk_id), 'status', status, 'ended', now_ms)
  redis.call('SREM', prefix .. 'bulks_open', bulk_id)
end
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
local function note_expiry()
  for span, run_ids in pairs(expiring) do
    if on_pages('RPUSH', (prefix .. 'expiry:' .. span), run_ids) == #run_ids then
      redis.call('ZADD', prefix .. 'expiry', span * 10000, span)
    end
  end
end
local function main()
local now_ms, bulk_id, turn, place, is_over, looked, done, failed, problems, reason = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], (ARGV[5] ~= ''), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], ARGV[10]
local MOST_WORK = 1000
local key = (prefix .. 'bulk:' .. bulk_id)
local known = redis.call('HMGET', key, 'status', 'turn')
if known[1] ~= 'running' or known[2] ~= turn then return {0, hints} end
local work, last_place = 0, nil
for runs_at = 11, #ARGV, 2 do
local run_id, reached = ARGV[runs_at], ARGV[runs_at + 1]

  work = work + 20 + redis.call('HLEN', (prefix .. 'steps:' .. run_id))
  if work > MOST_WORK and last_place then
    place, is_over = last_place, false
    break
  end
  local outcome = cancel(run_id, reason, now_ms)
  looked = looked + 1
  if outcome == 'cancelled' or outcome == 'requested' then done = done + 1 end
  last_place = reached
end
redis.call('HSET', key, 'place', place)
if problems ~= '' then redis.call('HSET', key, 'problems', problems) end
redis.call('HINCRBY', key, 'turn', 1)
redis.call('HINCRBY', key, 'looked', looked)
redis.call('HINCRBY', key, 'done', done)
redis.call('HINCRBY', key, 'failed', failed)
if is_over then end_bulk(bulk_id, 'completed', now_ms) end
return {1, hints}
end
local is_done, reply = pcall(main)
note_census()
note_expiry()
if not is_done then error(reply, 0) end
return reply
