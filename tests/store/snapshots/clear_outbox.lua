local function on_pages(command, key, items, first, last)
  local sum = 0
  last = last or #items
  for i = first or 1, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
end
local prefix = KEYS[1]
local uids = 1
on_pages('HDEL', prefix .. 'outbox:events', ARGV, uids)
return on_pages('ZREM', prefix .. 'outbox', ARGV, uids)
