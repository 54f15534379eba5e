-- check_version: the major version of the data in this store; set by who comes first.
-- KEYS   1 prefix
--@argv version
-- Reply  the version in the store
-- Read first: a server that is full or a replica refuses the write, and reading needs none.
local known = redis.call('GET', prefix .. 'version')
if known then return known end
redis.call('SETNX', prefix .. 'version', version)
return version
