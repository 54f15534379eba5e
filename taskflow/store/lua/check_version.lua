-- check_version: the major version of the data in this store; set by who comes first.
-- KEYS   1 prefix
--@argv version
-- Reply  the version in the store
redis.call('SETNX', prefix .. 'version', version)
return redis.call('GET', prefix .. 'version')
