-- wait: the index of waiting operations, by event name and by the value of an equality (S3.3). Needs keys.
-- `waits:<event>:<token>` is a set of run_id SEP step_key; the token is `path=value`, or empty without an equality.
-- `waitpaths:<event>` counts the waits of each path, so that an event knows which of its values to look up.
local function each_wait(op, visit)
  for _, name in ipairs(op.events) do visit(name, op.path or '', op.token or '') end
end
local function add_wait(op, member)
  each_wait(op, function(name, path, token)
    if redis.call('SADD', prefix .. 'waits:' .. name .. ':' .. token, member) == 1 then
      redis.call('HINCRBY', prefix .. 'waitpaths:' .. name, path, 1)
    end
  end)
end
local function remove_wait(op, member)
  each_wait(op, function(name, path, token)
    if redis.call('SREM', prefix .. 'waits:' .. name .. ':' .. token, member) == 1 then
      if redis.call('HINCRBY', prefix .. 'waitpaths:' .. name, path, -1) <= 0 then
        redis.call('HDEL', prefix .. 'waitpaths:' .. name, path)
      end
    end
  end)
end
