local function on_pages(command, key, items, first, last)
  first, last = first or 1, last or #items
  if last - first < 1000 and first <= last then return redis.call(command, key, unpack(items, first, last)) end
  local sum = 0
  for i = first, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
end
local prefix = KEYS[1]
local uids = 1
on_pages('HDEL', prefix .. 'outbox:events', ARGV, uids)
return on_pages('ZREM', prefix .. 'outbox', ARGV, uids)
