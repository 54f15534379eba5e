-- pause_queue: let no run of a queue begin or go on until the queue is resumed. Runs that execute go on until they wait.
-- Rule S10.4.
-- KEYS   1 prefix
--@argv now_ms app_id queue
-- Reply  since when (ms) the queue is paused: earlier than now_ms if it was paused already
-- Repeat keeps the time of the first call
redis.call('HSETNX', prefix .. 'paused', queue_member(app_id, queue), now_ms)
return tonumber(redis.call('HGET', prefix .. 'paused', queue_member(app_id, queue)))
