-- check_version: the major version of the data in this store; set by who comes first.
-- KEYS   1 prefix
-- ARGV   1 version
-- Reply  the version in the store
--@include keys
redis.call('SETNX', prefix .. 'version', ARGV[1])
return redis.call('GET', prefix .. 'version')
