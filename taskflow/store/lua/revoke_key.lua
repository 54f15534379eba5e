-- revoke_key: forget a key, which is not valid from then on. Rule S14.4.
-- KEYS   1 prefix
--@argv name
-- Reply  1, or 0 when there is no such key
-- Repeat finds no key
redis.call('HDEL', prefix .. 'keys_used', name)
redis.call('DEL', prefix .. 'key_rate:' .. name)
return redis.call('HDEL', prefix .. 'keys', name)
