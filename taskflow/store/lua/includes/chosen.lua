-- chosen: the functions that a list or a count is about: those that are named, or else all that are known. Of all, a script takes a
-- part: its callers share them, so that thousands of functions hold up nobody.
local function is_in_part(fn, part, parts)
  local last = {string.byte(fn, -3, -1)}
  local sum = #fn
  for i = 1, #last do sum = sum + last[i] * i * i end
  return sum % parts == part
end
local function chosen_functions(named, part, parts)
  if named[1] then return named end
  local chosen = {}
  for _, fn in ipairs(redis.call('SMEMBERS', prefix .. 'known_functions')) do
    if is_in_part(fn, part, parts) then chosen[#chosen + 1] = fn end
  end
  return chosen
end
