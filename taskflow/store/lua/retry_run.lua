-- retry_run: have the handler called again at due_ms, since the code between the steps has failed. Rules S5.1, S5.6.
-- KEYS   1 prefix
--@argv now_ms:int child_id run_id fence attempts due_ms error
--       attempts: how many were made so far; as before, when this one does not count (S12.2)
--       error: JSON, with when (ms) the attempt began and ended, and the worker
-- Reply  {'fenced' (the claim is lost) | 'cancel' (nothing is stored: the run keeps its claim, and shall end) | 'ok', hints}
-- Repeat gives 'fenced': the claim ended with the first call
local key = run_key(run_id)
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
local run = redis.call('HMGET', key, 'cancel', 'lane', 'function', 'queue', 'watched', 'attempt')
if run[1] then return {'cancel', {}} end
-- The run keeps the errors of the attempts before, separated by commas, until one of its steps completes. One that is in clear did
-- not count as an attempt: it gives way to the next.
if tonumber(run[6] or 0) > 0 then
  local before = redis.call('HMGET', key, 'earlier_errors', 'last_error')
  if not string.find(before[2], '"clear":true', 1, true) then
    redis.call('HSET', key, 'earlier_errors', (before[1] and before[1] .. ',' or '') .. before[2])
  end
end
redis.call('HSET', key, 'attempt', attempts, 'last_error', error, 'status', WAITING, 'due', due_ms)
redis.call('HDEL', claims_key(child_id), run_id)
move_run(run[3], run[4] or DEFAULT_QUEUE, RUNNING, WAITING)
free_place(run[2], run_id, now_ms)
set_timer(tonumber(due_ms), 'start' .. SEP .. run_id)
if run[5] then tell_watchers(run_id) end
return {'ok', hints}
