-- pause_queue: let no run of a queue begin or go on until it is resumed; runs that execute go on until they wait. Rule S10.4.
-- KEYS   1 prefix
--@argv now_ms app_id queue
-- Reply  since when it is paused (ms), which is before now_ms when it was so already
redis.call('HSETNX', prefix .. 'paused', queue_member(app_id, queue), now_ms)
return tonumber(redis.call('HGET', prefix .. 'paused', queue_member(app_id, queue)))
