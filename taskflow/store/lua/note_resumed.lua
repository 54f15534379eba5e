-- note_resumed: note in the record of an event that a wait, which looked back, has found it. Rules S3.3, S10.5.
-- KEYS   1 prefix
--@argv child_id run_id fence step_key uid
-- Reply  1, or 0 when the claim is lost or the event is gone
if not owns(run_id, child_id, fence) or redis.call('EXISTS', event_key(uid)) == 0 then return 0 end
redis.call('HSET', event_key(uid), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
return 1
