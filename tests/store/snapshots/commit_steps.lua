local function values_of(key, fields)
  if #fields <= 1000 then return redis.call('HMGET', key, unpack(fields)) end
  local values = {}
  for i = 1, #fields, 1000 do
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, i, math.min(i + 1000 - 1, #fields)))) do
      values[#values + 1] = value
    end
  end
  return values
end
local prefix = KEYS[1]
local plain_claims = {}
local function plain_claim(text)
  local known = plain_claims[text]
  if known == nil then
    local fence, fn, queue = string.match(text, '^(%d+)' .. '\31' .. '(.-)' .. '\31' .. '(.*)$')
    known = fence and {fence, fn, queue}
    plain_claims[text] = known or false
  end
  return known
end
local function on_pages(command, key, items, first, last)
  local sum = 0
  last = last or #items
  for i = first or 1, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
end
local function tell_watchers(run_id)
  if redis.call('PUBLISH', (prefix .. 'watch:' .. run_id), '') == 0 then redis.call('HDEL', (prefix .. 'run:' .. run_id), 'watched') end
end
local child_id = ARGV[1]
local ids = {}
local commits_next = 2
while commits_next <= #ARGV do
local commits_at = commits_next
commits_next = commits_at + 4 + ARGV[commits_at + 3] * 2
local run_id = ARGV[commits_at]
 ids[#ids + 1] = run_id end
local reply, claims = {''}, values_of((prefix .. 'claims:' .. child_id), ids)
local commits_next = 2
while commits_next <= #ARGV do
local commits_at = commits_next
commits_next = commits_at + 4 + ARGV[commits_at + 3] * 2
local run_id, fence, is_completed, memos = ARGV[commits_at], ARGV[commits_at + 1], (ARGV[commits_at + 2] ~= ''), commits_at + 4

  local claim, key = claims[#reply] and plain_claim(claims[#reply]), (prefix .. 'run:' .. run_id)
  local is_plain = claim and claim[1] == fence
  local run = is_plain and {} or redis.call('HMGET', key, 'by', 'fence', 'cancel', 'crashes', 'attempt', 'status', 'watched')
  if not is_plain and (run[1] ~= child_id or run[2] ~= fence or run[6] ~= 'running') then
    reply[#reply + 1] = 'fenced'
  else
    on_pages('HSET', (prefix .. 'steps:' .. run_id), ARGV, memos, (memos + ARGV[memos - 1] * 2 - 1))
    if run[4] then redis.call('HDEL', key, 'crashes', 'crash_log', 'trial') end
    if is_completed and run[5] then redis.call('HDEL', key, 'attempt', 'earlier_errors') end
    if run[7] then tell_watchers(run_id) end
    reply[#reply + 1] = run[3] and 'cancel' or 'ok'
  end
end
return reply
