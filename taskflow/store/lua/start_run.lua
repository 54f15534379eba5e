-- start_run: make one run directly, for an invocation, a cron tick or a replay. Rules S2.1, S8.1.
-- KEYS   1 prefix
--@argv now_ms function_id queue run_id start_at_ms:int start_timeout_ms:int finish_timeout_ms:int flow event cause version uid name
--       flow: see includes/create_run. event: JSON. uid, name: the event's
-- Reply  hints
local _, landed = create_run_once({
  id = run_id, fn = function_id, queue = queue, event = event, cause = cause, version = version, start_at_ms = start_at_ms,
  start_timeout_ms = start_timeout_ms, finish_timeout_ms = finish_timeout_ms, parent = '', flow = flow,
}, '', now_ms)
if redis.call('HSETNX', event_key(uid), 'event', event) == 1 then
  redis.call('HSET', event_key(uid), 'name', name, 'received', now_ms, 'fn:' .. function_id, landed or run_id)
  list_event(name, uid, redis.call('INCR', prefix .. 'seq'), now_ms)
end
return hints
