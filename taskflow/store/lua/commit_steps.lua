-- commit_steps: store the outcomes of attempts that ended, of one run or several. Rules S4.1, S5.1, S9.4.
-- KEYS   1 prefix
-- ARGV   1 child_id   then for each commit: run_id, fence, '1' when a step completed, number of memos, and for each: step_key, memo (msgpack):
--        the outcome, and earlier operations whose place in the order of outcomes became known
-- Reply  {'', for each commit 'fenced' when the claim is lost, 'cancel' when it is stored and the run shall end, else 'ok'}
--@include keys
local reply, at = {''}, 2
while at <= #ARGV do
  local run_id, fence, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 3])
  local key, first = run_key(run_id), at + 4
  at = first + 2 * count
  local run = redis.call('HMGET', key, 'by', 'fence', 'cancel', 'crashes', 'attempt', 'status')
  if run[1] ~= ARGV[1] or run[2] ~= fence or run[6] ~= 'running' then
    reply[#reply + 1] = 'fenced'
  else
    redis.call('HSET', steps_key(run_id), unpack(ARGV, first, at - 1))
    -- Progress: the next crash is the first under another step (S9.8), and the code between steps may fail anew (S5.1).
    if run[4] then redis.call('HDEL', key, 'crashes', 'crash_log', 'trial') end
    if ARGV[first - 2] == '1' and run[5] then redis.call('HDEL', key, 'attempt') end
    reply[#reply + 1] = run[3] and 'cancel' or 'ok'
  end
end
return reply
