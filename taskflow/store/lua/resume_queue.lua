-- resume_queue: let the runs of a paused queue begin and go on again. Rule S10.4.
-- KEYS   1 prefix
--@argv now_ms:int app_id queue
-- Reply  {since when (ms) the queue was paused, or '' if it was not, hints}
-- Repeat gives ''
local since_ms = redis.call('HGET', prefix .. 'paused', queue_member(app_id, queue))
if not since_ms then return {'', hints} end
redis.call('HDEL', prefix .. 'paused', queue_member(app_id, queue))
if redis.call('EXISTS', queue_key(app_id, queue)) == 1 then hint(app_id, queue, now_ms, true) end
return {since_ms, hints}
