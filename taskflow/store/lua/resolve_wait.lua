-- resolve_wait: an event met a wait's expression. Rule S3.3.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 run_id   3 step_key   4 event (JSON)   5 event uid
-- Reply  hints
--@include keys hint ready unready timer wake wait resolve
if resolve(ARGV[2], ARGV[3], {data = ARGV[4]}, tonumber(ARGV[1])) then
  redis.call('HSET', event_key(ARGV[5]), 'wait:' .. ARGV[2] .. ':' .. ARGV[3], 'resumed')
end
return hints
