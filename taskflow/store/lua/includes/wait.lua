-- wait: the indexes of waits.
-- For events (S3.3): `waits:<name>:<token>` is a set of run_id SEP step_key. The name is that of an event, or a pattern like
-- "shop/*". The token is `path=value` for a wait with an equality, else empty. `waitpaths:<name>` counts the waits of each path: an
-- event looks up its value at these paths only. `waitpatterns` is the set of the patterns that waits have now.
-- For signals (S3.4): the hash `signals` leads from app SEP signal to run_id SEP step_key.
local function is_pattern(name) return string.sub(name, -1) == '*' end
local function fits(name, pattern) return string.sub(name, 1, #pattern - 1) == string.sub(pattern, 1, -2) end
local function each_wait(op, visit)
  for _, name in ipairs(op.events) do visit(name, op.path or '', op.token or '') end
end
local function add_wait(op, member)
  each_wait(op, function(name, path, token)
    if redis.call('SADD', prefix .. 'waits:' .. name .. ':' .. token, member) == 1 then
      redis.call('HINCRBY', prefix .. 'waitpaths:' .. name, path, 1)
      if is_pattern(name) then redis.call('SADD', prefix .. 'waitpatterns', name) end
    end
  end)
end
local function remove_wait(op, member)
  each_wait(op, function(name, path, token)
    if redis.call('SREM', prefix .. 'waits:' .. name .. ':' .. token, member) == 0 then return end
    if redis.call('HINCRBY', prefix .. 'waitpaths:' .. name, path, -1) > 0 then return end
    redis.call('HDEL', prefix .. 'waitpaths:' .. name, path)
    if is_pattern(name) and redis.call('EXISTS', prefix .. 'waitpaths:' .. name) == 0 then
      redis.call('SREM', prefix .. 'waitpatterns', name)
    end
  end)
end
-- What an event of this name is to look up: {name or pattern SEP path, ...}. It takes one command when nothing waits, and is read
-- once for each name in a script. It calls no helpers, which would be made anew for every batch of events.
local lookups_by_name = {}
local function lookups_of(name)
  local known = lookups_by_name[name]
  if known then return known end
  local lookups = {}
  lookups_by_name[name] = lookups
  if redis.call('EXISTS', prefix .. 'waitpaths:' .. name, prefix .. 'waitpatterns') == 0 then return lookups end
  local names = {name}
  for _, pattern in ipairs(redis.call('SMEMBERS', prefix .. 'waitpatterns')) do
    if pattern ~= name and string.sub(name, 1, #pattern - 1) == string.sub(pattern, 1, -2) then names[#names + 1] = pattern end
  end
  for _, each in ipairs(names) do
    for _, path in ipairs(redis.call('HKEYS', prefix .. 'waitpaths:' .. each)) do lookups[#lookups + 1] = each .. SEP .. path end
  end
  return lookups
end
local function remove_signal(op, member)
  if redis.call('HGET', prefix .. 'signals', op.signal) == member then redis.call('HDEL', prefix .. 'signals', op.signal) end
end
