-- note_resumed: note in an event's record that a wait which looked back has found the event. Rules S3.3, S10.5.
-- KEYS   1 prefix
--@argv child_id run_id fence step_key uid
--       uid: of the event
-- Reply  1, or 0 when the claim is lost or the event is gone
-- Repeat writes the same again
if not owns(run_id, child_id, fence) or redis.call('EXISTS', event_key(uid)) == 0 then return 0 end
redis.call('HSET', event_key(uid), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
return 1
