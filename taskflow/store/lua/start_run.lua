-- start_run: make one run directly, for an invoke, a cron tick or a replay. Rules S2.1, S8.1.
-- KEYS   1 prefix
--@argv now_ms function_id queue run_id start_at_ms:int start_timeout_ms:int finish_timeout_ms:int flow cause version uid name
--@argv frame body
--       flow: see includes/create_run. uid, name: of the event. frame, body: the event as its record keeps it (includes/event)
-- Reply  hints
-- Repeat makes no second run: the run's id is known
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
return hints
