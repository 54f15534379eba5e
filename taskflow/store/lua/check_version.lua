-- check_version: the major version of the data in this store, and the secret of the deployment; both set by who comes first.
-- KEYS   1 prefix
--@argv version secret
-- Reply  {the version, the secret} in the store; the secret is '' for a store of another version, in which nothing is written
-- Read first: a server that is full or a replica refuses the write, and reading needs none.
local function keep_first(name, value)
  local known = redis.call('GET', prefix .. name)
  if not known then redis.call('SETNX', prefix .. name, value) end
  return known or value
end
local found = keep_first('version', version)
return {found, found == version and keep_first('secret', secret) or ''}
