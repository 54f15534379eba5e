-- clear_outbox: remove events from the outbox once they are published. Rule S9.1.
-- KEYS   1 prefix
--@argv uids[]
-- Reply  how many of the events were in the outbox
-- Repeat finds none
on_pages('HDEL', prefix .. 'outbox:events', ARGV, uids)
return on_pages('ZREM', prefix .. 'outbox', ARGV, uids)
