-- start_run: make one run directly, for an invoke, a cron tick or a replay. Rules S2.1, S8.1.
-- KEYS   1 prefix
--@argv now_ms function_id queue run_id start_at_ms:int start_timeout_ms:int finish_timeout_ms:int flow cause version uid name
--@argv frame body chosen_id
--       flow: see includes/create_run. uid, name: of the event. frame, body: the event as its record keeps it (includes/event).
--       chosen_id: by which the caller knows the run, or ''
-- Reply  {the run; the one that was made for this chosen_id in the last 24 h, if there is one; hints}
-- Repeat makes no second run: the run's id, and that of the caller, is known
local CHOSEN_MS = 86400000
-- `invoked:<function>:<chosen id>` is until when it counts, and the run.
local chosen = chosen_id ~= '' and prefix .. 'invoked:' .. function_id .. ':' .. chosen_id
local until_ms, known_id = string.match(chosen and redis.call('GET', chosen) or '', '^(%d+):(.*)$')
if known_id and tonumber(until_ms) > tonumber(now_ms) then return {known_id, hints} end
local is_new = redis.call('EXISTS', event_key(uid)) == 0
local _, landed = create_run_once({
  id = run_id, fn = function_id, queue = queue, event = body, cause = cause, version = version, start_at_ms = start_at_ms,
  start_timeout_ms = start_timeout_ms, finish_timeout_ms = finish_timeout_ms, parent = '', flow = flow,
  uid = uid,
}, '', now_ms)
redis.call('SADD', prefix .. 'known_functions', function_id)  -- no worker may have registered it so far
if is_new then
  local record = {'at', '-' .. now_ms, 'fn:' .. function_id, short_run(uid, landed or run_id)}
  add_text(record, frame, body)
  redis.call('HSET', event_key(uid), unpack(record))
  list_event(name, uid, redis.call('INCR', prefix .. 'seq') .. '-' .. now_ms, now_ms)
end
if chosen then
  -- The lifetime only tidies up.
  redis.call('SET', chosen, string.format('%d:%s', tonumber(now_ms) + CHOSEN_MS, run_id), 'PX', CHOSEN_MS + 3600000)
end
return {run_id, hints}
