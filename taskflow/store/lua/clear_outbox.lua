-- clear_outbox: remove published events from the outbox. Rule S9.1.
-- KEYS   1 prefix
--@argv uids[]
-- Reply  how many were there
on_pages('HDEL', prefix .. 'outbox:events', ARGV, uids)
return on_pages('ZREM', prefix .. 'outbox', ARGV, uids)
