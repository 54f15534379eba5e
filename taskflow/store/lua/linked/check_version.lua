local prefix = KEYS[1]
local version, secret = ARGV[1], ARGV[2]
local function keep_first(name, value)
  local known = redis.call('GET', prefix .. name)
  if not known then redis.call('SETNX', prefix .. name, value) end
  return known or value
end
local found = keep_first('version', version)
return {found, found == version and keep_first('secret', secret) or ''}
