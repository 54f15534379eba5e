-- start_run: make one run directly, for an invocation, a cron tick or a replay. Rules S2.1, S8.1.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 run_id   3 fn   4 queue   5 event (JSON)   6 cause   7 app version   8 start_at   9 start_ms   10 finish_ms
--        11 event uid   12 event name
-- Reply  hints
--@include keys hint ready timer claim create_run
create_run_once({
  id = ARGV[2], fn = ARGV[3], queue = ARGV[4], event = ARGV[5], cause = ARGV[6], version = ARGV[7],
  start_at = tonumber(ARGV[8]), start_ms = tonumber(ARGV[9]), finish_ms = tonumber(ARGV[10]), parent = '',
}, '', ARGV[1])
if redis.call('HSETNX', event_key(ARGV[11]), 'event', ARGV[5]) == 1 then
  redis.call('HSET', event_key(ARGV[11]), 'name', ARGV[12], 'received', ARGV[1], 'fn:' .. ARGV[3], ARGV[2])
  redis.call('ZADD', prefix .. 'events', ARGV[1], ARGV[11])
end
return hints
