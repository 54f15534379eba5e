-- cancel: request or carry out the cancellation of a run. Needs keys, finalize and what that needs.
local FINAL = {completed = true, failed = true, cancelled = true, skipped = true}
-- reason: JSON error.
local function cancel(run_id, reason, now_ms)
  local run = redis.call('HMGET', run_key(run_id), 'status', 'by')
  if not run[1] then return 'unknown' end
  if FINAL[run[1]] then return 'final' end
  if run[1] == 'running' then
    redis.call('HSETNX', run_key(run_id), 'cancel', reason)  -- the first reason stands
    redis.call('PUBLISH', child_channel(run[2]), 'cancel' .. SEP .. run_id)
    return 'requested'
  end
  finalize(run_id, 'cancelled', reason, true, now_ms)
  return 'cancelled'
end
