-- resolve_wait: an event met the condition of a wait, or of an event that cancels a run. Rules S3.3, S6.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 run_id   3 step_key; to cancel: '' and run_id SEP place   4 event (JSON)   5 event uid
-- Reply  hints
--@include keys hint listing timer lanes ready unready wake wait resolve
local function load_cancel()
--@include singleton cancel_index final_event finalize cancel cancel_by_event
return cancel_by_event
end
if ARGV[2] == '' then
  load_cancel()(string.match(ARGV[3], '^(.-)' .. SEP), ARGV[5], tonumber(ARGV[1]))
  return hints
end
if resolve(ARGV[2], ARGV[3], {data = ARGV[4]}, tonumber(ARGV[1])) then
  redis.call('HSET', event_key(ARGV[5]), 'wait:' .. ARGV[2] .. ':' .. ARGV[3], 'resumed')
end
return hints
