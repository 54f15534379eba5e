-- pages: commands over many items. One call takes some 8,000 values at most, beyond which Lua says "too many results to unpack".
local PAGE = 1000
-- items: keys, members or pairs. Returns the sum of the replies, which are numbers.
local function on_pages(command, key, items, first, last)
  first, last = first or 1, last or #items
  if last - first < PAGE and first <= last then return redis.call(command, key, unpack(items, first, last)) end
  local sum = 0
  for i = first, last, PAGE do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + PAGE - 1, last)))
  end
  return sum
end
-- The values of a hash's fields, in the order of `fields`; false for a field that the hash does not have.
local function values_of(key, fields)
  if #fields <= PAGE then return redis.call('HMGET', key, unpack(fields)) end
  local values = {}
  for i = 1, #fields, PAGE do
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, i, math.min(i + PAGE - 1, #fields)))) do
      values[#values + 1] = value
    end
  end
  return values
end
local function on_keys(command, keys)
  local sum = 0
  for i = 1, #keys, PAGE do sum = sum + redis.call(command, unpack(keys, i, math.min(i + PAGE - 1, #keys))) end
  return sum
end
