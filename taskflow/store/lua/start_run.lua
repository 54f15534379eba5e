-- start_run: make one run directly, for an invocation, a cron tick or a replay. Rules S2.1, S8.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 run_id   3 fn   4 queue   5 event (JSON)   6 cause   7 app version   8 start_at   9 start_timeout_ms   10 finish_timeout_ms
--        11 event uid   12 event name   13 flow control (see includes/create_run)
-- Reply  hints
--@include keys hint listing timer lanes throttle ready claim event
local function load_admission()
--@include unready wake wait resolve singleton cancel_index final_event finalize cancel skip singleton_entry scheduled rate_limit idempotency debounce batch admission
return admit
end
--@include create_run
local _, landed = create_run_once({
  id = ARGV[2], fn = ARGV[3], queue = ARGV[4], event = ARGV[5], cause = ARGV[6], version = ARGV[7],
  start_at = tonumber(ARGV[8]), start_timeout_ms = tonumber(ARGV[9]), finish_timeout_ms = tonumber(ARGV[10]), parent = '', flow = ARGV[13],
}, '', ARGV[1])
if redis.call('HSETNX', event_key(ARGV[11]), 'event', ARGV[5]) == 1 then
  redis.call('HSET', event_key(ARGV[11]), 'name', ARGV[12], 'received', ARGV[1], 'fn:' .. ARGV[3], landed or ARGV[2])
  list_event(ARGV[12], ARGV[11], redis.call('INCR', prefix .. 'seq'), ARGV[1])
end
return hints
