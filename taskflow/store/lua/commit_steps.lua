-- commit_steps: store the outcomes of ended attempts, of one run or several. Rules S4.1, S5.1, S9.4.
-- KEYS   1 prefix
--@argv child_id
--@together commits[run_id fence is_completed:flag memos[step_key memo]]
--       is_completed: a step has completed. memos: operations (msgpack): the outcome of the attempt, and earlier operations whose
--       place in the order of outcomes is known since
-- Reply  {'', for each commit 'fenced' (the claim is lost) | 'cancel' (it is stored, and the run shall end) | 'ok'}
-- Repeat writes the same again
local reply, claims = {''}, claims_key(child_id)
for run_id, fence, is_completed, memos in commits do
  local claim, key = redis.call('HGET', claims, run_id), run_key(run_id)
  -- Under a plain claim the run has no cancel, crash, failed attempt or watcher: it need not be read.
  local is_plain = claim and string.sub(claim, 1, #fence + 1) == fence .. SEP
  local run = is_plain and {} or redis.call('HMGET', key, 'by', 'fence', 'cancel', 'crashes', 'attempt', 'status', 'watched')
  if not is_plain and (run[1] ~= child_id or run[2] ~= fence or run[6] ~= RUNNING) then
    reply[#reply + 1] = 'fenced'
  else
    on_pages('HSET', steps_key(run_id), ARGV, memos, last_of(memos))
    -- This is progress: the next crash is the first one under another step (S9.8), and the code between the steps has all its
    -- attempts again (S5.1).
    if run[4] then redis.call('HDEL', key, 'crashes', 'crash_log', 'trial') end
    if is_completed and run[5] then redis.call('HDEL', key, 'attempt', 'earlier_errors') end
    if run[7] then tell_watchers(run_id) end
    reply[#reply + 1] = run[3] and 'cancel' or 'ok'
  end
end
return reply
