-- check_version: read the version of the stored form and the secret of the deployment; the first caller sets both.
-- KEYS   1 prefix
--@argv version secret
--       version: the one that the caller's code knows. secret: what becomes the secret if the store has none yet
-- Reply  {version, secret} of the store; the secret is '' for a store of another version, in which nothing is written
-- Repeat reads what the first call has set
-- The script reads before it writes: a full server or a replica refuses every write, and a store that is in use needs none.
local function keep_first(name, value)
  local known = redis.call('GET', prefix .. name)
  if not known then redis.call('SETNX', prefix .. name, value) end
  return known or value
end
local found = keep_first('version', version)
return {found, found == version and keep_first('secret', secret) or ''}
