local prefix = KEYS[1]
local function on_pages(command, key, items, first, last)
  first, last = first or 1, last or #items
  if last - first < 1000 and first <= last then return redis.call(command, key, unpack(items, first, last)) end
  local sum = 0
  for i = first, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
end
local function tell_watchers(run_id)
  if redis.call('PUBLISH', (prefix .. 'watch:' .. run_id), '') == 0 then redis.call('HDEL', (prefix .. 'run:' .. run_id), 'watched') end
end
local child_id = ARGV[1]
local reply, claims = {''}, (prefix .. 'claims:' .. child_id)
local commits_next = 2
while commits_next <= #ARGV do
local commits_at = commits_next
commits_next = commits_at + 4 + ARGV[commits_at + 3] * 2
local run_id, fence, is_completed, memos = ARGV[commits_at], ARGV[commits_at + 1], (ARGV[commits_at + 2] ~= ''), commits_at + 4

  local claim, key = redis.call('HGET', claims, run_id), (prefix .. 'run:' .. run_id)
  local is_plain = claim and string.sub(claim, 1, #fence + 1) == fence .. '\31'
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
