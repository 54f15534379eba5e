-- clear_outbox: these events are published. Rule S9.1.
-- KEYS   1 prefix
-- ARGV   1... uids
-- Reply  how many were there
--@include keys
redis.call('HDEL', prefix .. 'outbox:events', unpack(ARGV))
return redis.call('ZREM', prefix .. 'outbox', unpack(ARGV))
