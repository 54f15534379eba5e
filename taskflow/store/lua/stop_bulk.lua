-- stop_bulk: end a bulk operation before it is over. What it has done stays done. Rule S14.6.
-- KEYS   1 prefix
--@argv now_ms bulk_id
-- Reply  1 if it was stopped, 0 if it had ended before, -1 if it is unknown
-- Repeat gives 0
local status = redis.call('HGET', bulk_key(bulk_id), 'status')
if not status then return -1 end
if status ~= RUNNING then return 0 end
end_bulk(bulk_id, 'stopped', now_ms)
return 1
