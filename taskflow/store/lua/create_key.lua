-- create_key: keep what is known of a new key of a client. The key itself is not kept. Rule S14.4.
-- KEYS   1 prefix
--@argv name record
--       record: JSON, with the digest of the key
-- Reply  1, or 0 when there is another key of this name
-- Repeat finds the same record, and replies 1 again
redis.call('HSETNX', prefix .. 'keys', name, record)
return redis.call('HGET', prefix .. 'keys', name) == record and 1 or 0
