local prefix = KEYS[1]
local function run_key(run_id) return prefix .. 'run:' .. run_id end
local function event_key(uid) return prefix .. 'event:' .. uid end
local function event_json(uid, frame, body)
  if not frame or frame == '' then return body end
  local ts, name = string.match(frame, '^(%d+)' .. '\31' .. '(.*)$')
  return '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"' .. name .. '","data":' .. body .. ',"ts":' .. ts .. '}'
end
local function event_text(uid)
  local kept = redis.call('HMGET', event_key(uid), 'frame', 'data', 'event')
  return event_json(uid, kept[1], kept[2] or kept[3]) or nil
end
local function event_uid(run_id, uid) return uid or string.match(run_id, '^(%w+)%-') or '' end
local function event_of(run_id, own, uid) return own or event_text(event_uid(run_id, uid)) end
local function steps_key(run_id) return prefix .. 'steps:' .. run_id end
local PENDING = {wait = true, retry = true, offer = true, taken = true}
local function is_pending(op) return PENDING[op.state] end
local function ready_key(fn, queue) return prefix .. 'ready:' .. queue .. ':' .. fn end
local function lane_key(fn, queue, lane) return ready_key(fn .. '\31' .. lane, queue) end
local function lane_member(queue, fn, lane) return queue .. '\31' .. fn .. '\31' .. lane end
local function clear_timer(member) redis.call('ZREM', prefix .. 'timers', member) end
local function lanes_key(fn, queue) return prefix .. 'lanes:' .. queue .. ':' .. fn end
local listed = {}
local function queue_key(app, queue) return prefix .. 'queue:' .. app .. ':' .. queue end
local function app_of(fn) return string.match(fn, '^([^/]+)/') end
local function unlist_function(queue, fn, member)
  listed[queue .. '\31' .. member] = nil
  redis.call('ZREM', queue_key(app_of(fn), queue), member)
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
local function blocked_key(limit) return prefix .. 'blocked:' .. limit end
local known_settings = {}
local function settings_of(fn)
  local settings = known_settings[fn]
  if not settings then
    local text = redis.call('HGET', prefix .. 'flow', fn) or '- - - -'
    local first, second, interval_us, tolerance_us = string.match(text, '^(%S+) (%S+) (%S+) (%S+)$')
    settings = {limits = {tonumber(first), tonumber(second)}}
    settings.interval_us, settings.tolerance_us = tonumber(interval_us), tonumber(tolerance_us)
    known_settings[fn] = settings
  end
  return settings
end
local function places_key(limit) return prefix .. 'places:' .. limit end
local function is_full(limit, most) return most and redis.call('SCARD', places_key(limit)) >= most end
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
local function held_key(fn) return prefix .. 'held:' .. fn end
local function list_function(queue, fn, member, score, now_ms, silent)
  local best = listed[queue .. '\31' .. member]
  if best and best <= tonumber(score) and not silent then return end
  if is_paused(fn) then return redis.call('SADD', held_key(fn), queue) end
  listed[queue .. '\31' .. member] = tonumber(score)
  local app = app_of(fn)
  if redis.call('ZADD', queue_key(app, queue), 'LT', score, member) == 1 then
    redis.call('SADD', prefix .. 'queues', app .. '\31' .. queue)
  end
  if silent then
    redis.call('HDEL', prefix .. 'hints', app .. '\31' .. queue)
  else
    hint(app, queue, now_ms)
  end
end
local function serve_lane(queue, fn, lane, turn, now_ms, silent)
  local head = redis.call('ZRANGE', lane_key(fn, queue, lane), 0, 0, 'WITHSCORES')
  if not head[1] then return end
  redis.call('ZADD', lanes_key(fn, queue), turn, lane)
  list_function(queue, fn, fn .. '\31', head[2], now_ms, silent)
end
local function unblock(limit, now_ms, silent)
  local first = redis.call('ZRANGE', blocked_key(limit), 0, 0, 'WITHSCORES')
  if not first[1] then return false end
  local queue, fn, lane = string.match(first[1], '^(.-)' .. '\31' .. '(.-)' .. '\31' .. '(.*)$')
  local most
  each_limit(lane, function(id, nth) if id == limit then most = settings_of(fn).limits[nth] end end)
  if is_full(limit, most) then return false end
  redis.call('ZREM', blocked_key(limit), first[1])
  if redis.call('EXISTS', blocked_key(limit)) == 0 then redis.call('ZREM', prefix .. 'blocked', limit) end
  if not silent then hint(app_of(fn), queue, now_ms, true) end
  serve_lane(queue, fn, lane, first[2], now_ms, silent)
  if is_paused(fn) then return unblock(limit, now_ms, silent) end
  return true
end
local function remove_from_lane(member, fn, queue, lane, now_ms)
  local key = lane_key(fn, queue, lane)
  if redis.call('ZREM', key, member) == 0 or redis.call('EXISTS', key) == 1 then return end
  local member_of_lane = lane_member(queue, fn, lane)
  clear_timer('lane' .. '\31' .. member_of_lane)
  if redis.call('ZREM', lanes_key(fn, queue), lane) == 1 and redis.call('EXISTS', lanes_key(fn, queue)) == 0 then
    unlist_function(queue, fn, fn .. '\31')
  end
  each_limit(lane, function(limit)
    if redis.call('ZREM', blocked_key(limit), member_of_lane) == 1 and redis.call('EXISTS', blocked_key(limit)) == 0 then
      redis.call('ZREM', prefix .. 'blocked', limit)
    end
    unblock(limit, now_ms)
  end)
end
local function remove_ready(member, fn, queue, lane, now_ms)
  if lane and lane ~= '' then return remove_from_lane(member, fn, queue, lane, now_ms) end
  if redis.call('ZREM', ready_key(fn, queue), member) == 1 and redis.call('EXISTS', ready_key(fn, queue)) == 0 then
    unlist_function(queue, fn, fn)
  end
end
local function op_timer(run_id, step_key) return 'op' .. '\31' .. run_id .. '\31' .. step_key end
local function each_wait(op, visit)
  for _, name in ipairs(op.events) do visit(name, op.path or '', op.token or '') end
end
local function is_pattern(name) return string.sub(name, -1) == '*' end
local function remove_wait(op, member)
  each_wait(op, function(name, path, token)
    if redis.call('SREM', prefix .. 'waits:' .. name .. ':' .. token, member) == 0 then return end
    if redis.call('HINCRBY', prefix .. 'waitpaths:' .. name, path, -1) > 0 then return end
    redis.call('HDEL', prefix .. 'waitpaths:' .. name, path)
    if is_pattern(name) and redis.call('EXISTS', prefix .. 'waitpaths:' .. name) == 0 then
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
    local run = redis.call('HMGET', run_key(run_id), 'function', 'queue', 'lane')
    remove_ready(job, run[1], run[2] or 'default', run[3], now_ms)
  end
  if op.due then clear_timer(op_timer(run_id, step_key)) end
  if op.kind == 'event' then remove_wait(op, job) end
  if op.kind == 'signal' then remove_signal(op, job) end
end
local function joins_key(run_id) return prefix .. 'joins:' .. run_id end
local function is_join_open(run_id, step_key)
  local join = redis.call('HGET', joins_key(run_id), step_key)
  return join and redis.call('HINCRBY', joins_key(run_id), '\31' .. join, -1) > 0
end
local function watch_channel(run_id) return prefix .. 'watch:' .. run_id end
local function tell_watchers(run_id)
  if redis.call('PUBLISH', watch_channel(run_id), '') == 0 then redis.call('HDEL', run_key(run_id), 'watched') end
end
local counted, made_live, left_live, ended_rows = {}, {}, {}, {}
local function tally(fn, queue, status, difference)
  local queues = counted[fn]
  if not queues then
    queues = {}
    counted[fn] = queues
  end
  local statuses = queues[queue]
  if not statuses then
    statuses = {}
    queues[queue] = statuses
  end
  statuses[status] = (statuses[status] or 0) + difference
end
local function move_run(fn, queue, from, to)
  tally(fn, queue, from, -1)
  tally(fn, queue, to, 1)
end
local function make_lane_ready(member, fn, queue, lane, score, now_ms, silent)
  local key = lane_key(fn, queue, lane)
  local is_listed = redis.call('EXISTS', key) == 1
  redis.call('ZADD', key, score, member)
  if not is_listed then serve_lane(queue, fn, lane, score, now_ms, silent) end
end
local function make_ready(member, fn, queue, lane, score, now_ms, silent)
  if lane and lane ~= '' then return make_lane_ready(member, fn, queue, lane, score, now_ms, silent) end
  redis.call('ZADD', ready_key(fn, queue), score, member)
  list_function(queue, fn, fn, score, now_ms, silent)
end
local function child_channel(child_id) return prefix .. 'child:' .. child_id end
local function wake(run_id, now_ms)
  local run = redis.call('HMGET', run_key(run_id), 'status', 'function', 'queue', 'score', 'by', 'due', 'lane', 'created',
    'watched')
  if run[9] then tell_watchers(run_id) end
  if run[1] == 'waiting' then
    if run[6] then return end
    redis.call('HSET', run_key(run_id), 'status', 'queued')
    move_run(run[2], run[3] or 'default', 'waiting', 'queued')
    make_ready(run_id, run[2], run[3] or 'default', run[7], tonumber(run[4] or run[8]), now_ms)
  elseif run[1] == 'running' then
    redis.call('HSET', run_key(run_id), 'dirty', 1)
    redis.call('PUBLISH', child_channel(run[5]), 'resolved' .. '\31' .. run_id)
  end
end
local function resolve(run_id, step_key, outcome, now_ms)
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  if not packed then return false end
  local op = cmsgpack.unpack(packed)
  if not is_pending(op) then return false end
  unlist(run_id, step_key, op, now_ms)
  op.due, op.ended = nil, now_ms
  if outcome.error then
    op.state, op.error = 'failed', outcome.error
  else
    op.state, op.data = 'done', outcome.data
    redis.call('HDEL', run_key(run_id), 'attempt', 'earlier_errors')
  end
  redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
  if outcome.error or not is_join_open(run_id, step_key) then wake(run_id, now_ms) end
  return true
end
local function on_pages(command, key, items, first, last)
  local sum = 0
  last = last or #items
  for i = first or 1, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
end
local function kind_key(fn, kind) return prefix .. 'runs:' .. fn .. '\31' .. kind end
local census_ms
local function list_ended()
  local key, runs = prefix .. 'ended', table.concat(ended_rows, '\31')
  local function add(ms) return redis.pcall('XADD', key, 'MAXLEN', '~', 1000, ms .. '-*', 'runs', runs) end
  if type(add(string.format('%.0f', census_ms))) ~= 'table' then return end
  add(string.match(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1][1], '^(%d+)'))
end
local function note_census()
  for fn, queues in pairs(counted) do
    for queue, statuses in pairs(queues) do
      for status, difference in pairs(statuses) do
        local field = fn .. '\31' .. queue .. '\31' .. status
        if difference ~= 0 and redis.call('HINCRBY', prefix .. 'counts', field, difference) == 0 then
          redis.call('HDEL', prefix .. 'counts', field)
        end
      end
    end
  end
  for fn, rows in pairs(made_live) do on_pages('ZADD', kind_key(fn, 'live'), rows) end
  for fn, run_ids in pairs(left_live) do on_pages('ZREM', kind_key(fn, 'live'), run_ids) end
  if census_ms then list_ended() end
end
local expiring = {}
local function expiry_key(span) return prefix .. 'expiry:' .. span end
local function note_expiry()
  for span, run_ids in pairs(expiring) do
    on_pages('RPUSH', expiry_key(span), run_ids)
    redis.call('ZADD', prefix .. 'expiry', span * 10000, span)
  end
end
local made_open_cancel
local function late_open_cancel()
if made_open_cancel then return unpack(made_open_cancel) end
local FINAL = {['completed'] = true, ['failed'] = true, ['cancelled'] = true, ['skipped'] = true}
local function app_key(app) return prefix .. 'app:' .. app end
local function leave_census(run_id, fn, queue, from)
  tally(fn, queue, from, -1)
  local run_ids = left_live[fn]
  if not run_ids then
    run_ids = {}
    left_live[fn] = run_ids
  end
  run_ids[#run_ids + 1] = run_id
end
local function note_ended(run_id, fn, status, created, now_ms)
  local at = #ended_rows
  ended_rows[at + 1], ended_rows[at + 2] = run_id, status
  census_ms = now_ms
  if status ~= 'completed' then redis.call('ZADD', kind_key(fn, status), created, run_id) end
end
local function claims_key(child_id) return prefix .. 'claims:' .. child_id end
local function free_places(lane, holders, now_ms, silent)
  each_limit(lane, function(limit)
    for _ = 1, on_pages('SREM', places_key(limit), holders) do
      if not unblock(limit, now_ms, silent) then break end
    end
  end)
end
local function free_place(lane, holder, now_ms, silent)
  if lane then free_places(lane, {holder}, now_ms, silent) end
end
local function cancel_member(run_id, place) return '\31' .. run_id .. '\31' .. place end
local function remove_cancels(run_id, field)
  for place, each in ipairs(cmsgpack.unpack(field)) do remove_wait(each, cancel_member(run_id, place)) end
end
local function sweep_operations(run_id, now_ms)
  redis.call('DEL', joins_key(run_id))
  local steps = redis.call('HGETALL', steps_key(run_id))
  for i = 1, #steps, 2 do
    local op = cmsgpack.unpack(steps[i + 1])
    if is_pending(op) then
      unlist(run_id, steps[i], op, now_ms)
      op.state, op.due = 'dropped', nil
      redis.call('HSET', steps_key(run_id), steps[i], cmsgpack.pack(op))
    end
  end
end
local function keep_until(run_id, remove_at_ms)
  local span = math.ceil(remove_at_ms / 10000)
  local run_ids = expiring[span]
  if not run_ids then
    run_ids = {}
    expiring[span] = run_ids
  end
  run_ids[#run_ids + 1] = run_id
end
local function kept_for(fn, status, keep)
  local all_ms, failed_ms = string.match(keep or '', '^(%d*) (%d*)$')
  local own_ms = tonumber(status == 'failed' and failed_ms or status ~= 'failed' and all_ms or nil)
  if own_ms then return own_ms end
  local app = redis.call('HMGET', app_key(app_of(fn)), 'retention_ms', 'failed_retention_ms')
  return status == 'failed' and tonumber(app[2] or 7 * 86400000) or tonumber(app[1] or 86400000)
end
local function parent_of(parent) return string.match(parent, '^(.-)' .. '\31' .. '(.*)$') end
local function singleton_key(id) return prefix .. 'singleton:' .. id end
local function leave_singleton(id, run_id, now_ms)
  local key = singleton_key(id)
  local held = redis.call('HMGET', key, 'run', 'next')
  if held[2] == run_id then redis.call('HDEL', key, 'next') end
  if held[1] ~= run_id then return end
  local next_id = held[2]
  if not next_id then return redis.call('DEL', key) end
  redis.call('HSET', key, 'run', next_id)
  redis.call('HDEL', key, 'next')
  local run = redis.call('HMGET', run_key(next_id), 'function', 'queue', 'score', 'lane', 'created')
  redis.call('HSET', run_key(next_id), 'status', 'queued')
  move_run(run[1], run[2] or 'default', 'scheduled', 'queued')
  redis.call('HDEL', run_key(next_id), 'behind')
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
local function done_channel(run_id) return prefix .. 'done:' .. run_id end
local function finalize(run_id, status, body, has_pending, now_ms)
  local key = run_key(run_id)
  local run = redis.call('HMGET', key, 'status', 'function', 'queue', 'by', 'parent', 'start_timeout_ms', 'finish_timeout_ms',
    'lane', 'gathers', 'single', 'cancels', 'event', 'uid', 'keep', 'created')
  local fn, queue = run[2], run[3] or 'default'
  leave_census(run_id, fn, queue, run[1])
  note_ended(run_id, fn, status, run[15], now_ms)
  if run[1] == 'queued' then remove_ready(run_id, fn, queue, run[8], now_ms) end
  if run[1] == 'scheduled' or run[1] == 'waiting' then clear_timer('start' .. '\31' .. run_id) end
  if run[1] == 'running' then
    redis.call('HDEL', claims_key(run[4]), run_id)
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
    local parent_id, step_key = parent_of(run[5])
    if status == 'completed' then
      resolve(parent_id, step_key, {data = body}, now_ms)
    else
      local cause = cjson.decode(body)
      resolve(parent_id, step_key, {error = {name = cause.name, message = cause.message, stack = cause.stack}}, now_ms)
    end
  end
  if run[10] then leave_singleton(run[10], run_id, now_ms) end
  if status == 'failed' or status == 'cancelled' then
    tell_end(run_id, fn, status, event_of(run_id, run[12], run[13]) or 'null', body, now_ms)
  end
  redis.call('PUBLISH', done_channel(run_id), status)
end
local function cancel(run_id, reason, now_ms)
  local run = redis.call('HMGET', run_key(run_id), 'status', 'by')
  if not run[1] then return 'unknown' end
  if FINAL[run[1]] then return 'final' end
  if run[1] == 'running' then
    redis.call('HSETNX', run_key(run_id), 'cancel', reason)
    redis.call('PUBLISH', child_channel(run[2]), 'cancel' .. '\31' .. run_id)
    return 'requested'
  end
  finalize(run_id, 'cancelled', reason, true, now_ms)
  return 'cancelled'
end
local names_of_events = {}
local function find_name(uid)
  local record = redis.call('HMGET', event_key(uid), 'frame', 'event')
  if record[1] then return string.match(record[1], '\31' .. '(.*)$') end
  local kept = record[2] or ''
  local _, before = string.find(kept, '"name":"', 1, true)
  if not before then return '' end
  local at = string.find(kept, '["\\]', before + 1)
  while at and string.sub(kept, at, at) == '\\' do at = string.find(kept, '["\\]', at + 2) end
  return at and string.sub(kept, before + 1, at - 1) or ''
end
local function cancel_by_event(run_id, uid, now_ms)
  local name = names_of_events[uid] or find_name(uid)
  names_of_events[uid] = name
  local reason = '{"name":"Cancelled","message":"event ' .. name .. ' came: ' .. uid .. '","stack":""}'
  local outcome = cancel(run_id, reason, now_ms)
  if outcome ~= 'final' then redis.call('HSET', event_key(uid), 'cancel:' .. run_id, outcome) end
end
local function open_cancel(run_id, place, seq, now_ms)
  local field = redis.call('HGET', run_key(run_id), 'cancels')
  local entry = field and cmsgpack.unpack(field)[tonumber(place)]
  if not entry or entry.seq >= seq then return nil end
  if entry.until_ms and entry.until_ms < now_ms then return remove_wait(entry, cancel_member(run_id, place)) end
  return entry
end
made_open_cancel = {open_cancel, cancel_by_event}
return open_cancel, cancel_by_event
end
local function main()
local now_ms, limit, cursor = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local SCAN_COUNT = 100
local open = {}
local function note_open(number, run_id, step_key, condition, of_run)
  local kept = redis.call('HMGET', run_key(of_run), 'event', 'uid')
  for _, part in ipairs({number, run_id, step_key, condition, event_of(of_run, kept[1], kept[2])}) do open[#open + 1] = part end
end
local function meet_cancel(entry_name, number, uid, seq)
  local open_cancel, cancel_by_event = late_open_cancel()
  local run_id, place = string.match(entry_name, '^(.-)' .. '\31' .. '(.*)$')
  local entry = open_cancel(run_id, place, seq, now_ms)
  if not entry then return end
  if entry.condition then return note_open(number, '', entry_name, entry.condition, run_id) end
  cancel_by_event(run_id, uid, now_ms)
end
local function meet(member, number, uid, seq, event)
  local run_id, step_key = string.match(member, '^(.-)' .. '\31' .. '(.*)$')
  if run_id == '' then return meet_cancel(step_key, number, uid, seq) end
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  local op = packed and cmsgpack.unpack(packed)
  if not op or op.state ~= 'wait' or op.seq >= seq then return end
  if op.condition then
    note_open(number, run_id, step_key, op.condition, run_id)
  elseif resolve(run_id, step_key, {data = event}, now_ms) then
    redis.call('HSET', event_key(uid), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
  end
end
local number = 0
local arrivals_next = 4
while arrivals_next <= #ARGV do
local arrivals_at = arrivals_next
arrivals_next = arrivals_at + 4 + ARGV[arrivals_at + 3]
local uid, seq, text, lookups = ARGV[arrivals_at], tonumber(ARGV[arrivals_at + 1]), ARGV[arrivals_at + 2], arrivals_at + 4

  local nth = 0
  for lookups_at = lookups, lookups + ARGV[lookups - 1] - 1 do
local lookup = ARGV[lookups_at]

    repeat
      if limit <= 0 then return {hints, open, {number, nth, cursor}} end
      local page = redis.call('SSCAN', prefix .. 'waits:' .. lookup, cursor, 'COUNT', SCAN_COUNT)
      cursor = page[1]
      for _, member in ipairs(page[2]) do meet(member, number, uid, seq, text) end
      limit = limit - #page[2]
    until cursor == '0'
    nth = nth + 1
  end
  number = number + 1
end
return {hints, open, {}}
end
local reply = main()
note_census()
note_expiry()
return reply
