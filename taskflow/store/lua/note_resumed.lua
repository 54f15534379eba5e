-- note_resumed: an event that a wait found by looking back says what it did. Rules S3.3, S10.5.
-- KEYS   1 prefix
-- ARGV   1 child_id   2 run_id   3 fence   4 step_key   5 event uid
-- Reply  1, or 0 when the claim is lost or the event is gone
--@include keys timer claim
if not owns(ARGV[2], ARGV[1], ARGV[3]) or redis.call('EXISTS', event_key(ARGV[5])) == 0 then return 0 end
redis.call('HSET', event_key(ARGV[5]), 'wait:' .. ARGV[2] .. ':' .. ARGV[4], 'resumed')
return 1
