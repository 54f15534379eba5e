-- fire_cron: start the run of one tick, once. Rule S8.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 the leader's fence   3 schedule (function SEP cron)   4 tick_ms   5 '1' to start a run, '' to only note the tick
--        6 run_id   7 fn   8 queue   9 event (JSON)   10 app version   11 start_timeout_ms   12 finish_timeout_ms   13 event uid
--        14 flow control (see includes/create_run)
-- Reply  {'fenced' | 'fired' | 'known', hints}
--@include keys hint listing timer lanes throttle ready claim
local function load_admission()
--@include unready wake wait resolve singleton cancel_index final_event finalize cancel skip singleton_entry scheduled rate_limit idempotency debounce batch admission
return admit
end
--@include create_run
local tick_ms = tonumber(ARGV[4])
if redis.call('HGET', prefix .. 'leader', 'fence') ~= ARGV[2] then return {'fenced', hints} end
local last_ms = redis.call('HGET', prefix .. 'crons', ARGV[3])
if last_ms and tonumber(last_ms) >= tick_ms then return {'known', hints} end
redis.call('HSET', prefix .. 'crons', ARGV[3], tick_ms)
if ARGV[5] ~= '' then
  create_run_once({
    id = ARGV[6], fn = ARGV[7], queue = ARGV[8], event = ARGV[9], cause = 'cron', version = ARGV[10], start_at = 0,
    start_timeout_ms = tonumber(ARGV[11]), finish_timeout_ms = tonumber(ARGV[12]), parent = '', flow = ARGV[14],
  }, '', ARGV[1])
end
return {'fired', hints}
