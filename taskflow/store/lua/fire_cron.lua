-- fire_cron: start the run of one tick of a schedule, once. Rule S8.1.
-- KEYS   1 prefix
--@argv now_ms fence schedule tick_ms:int version event
--@argv runs[function_id queue run_id start_at_ms:int start_timeout_ms:int finish_timeout_ms:int flow is_claimable:flag]
--       fence: of the leading beat. schedule: function SEP cron. tick_ms: when the tick is due. version: of the code base. event:
--       JSON. runs: one, or none to only note the tick. flow: see includes/create_run
-- Reply  {'fenced' (another beat leads) | 'fired' | 'known' (the tick was noted before), hints}
-- Repeat gives 'known'
if redis.call('HGET', prefix .. 'leader', 'fence') ~= fence then return {'fenced', hints} end
local last_ms = redis.call('HGET', prefix .. 'crons', schedule)
-- A noted tick that lies more than a minute ahead comes from a clock that was wrong, and is passed over: a tick starts no second
-- run in any case, since the id of its run is made of it.
local is_known = last_ms and tonumber(last_ms) >= tick_ms and tonumber(last_ms) <= tonumber(now_ms) + 60000
if is_known then return {'known', hints} end
redis.call('HSET', prefix .. 'crons', schedule, tick_ms)
for function_id, queue, run_id, start_timeout_ms, finish_timeout_ms, flow in runs do
  create_run_once({
    id = run_id, fn = function_id, queue = queue, event = event, cause = 'cron', version = version, start_at_ms = 0,
    start_timeout_ms = start_timeout_ms, finish_timeout_ms = finish_timeout_ms, parent = '', flow = flow,
  }, '', now_ms)
end
return {'fired', hints}
