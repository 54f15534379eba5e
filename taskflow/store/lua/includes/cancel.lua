-- cancel: cancel a run, or ask its owner to end it. Returns 'unknown', 'final', 'requested' or 'cancelled' (see cancel_runs).
local function cancel(run_id, reason, now_ms)
  local run = redis.call('HMGET', run_key(run_id), 'status', 'by')
  if not run[1] then return 'unknown' end
  if FINAL[run[1]] then return 'final' end
  if run[1] == RUNNING then
    -- The first reason stands.
    redis.call('HSETNX', run_key(run_id), 'cancel', reason)
    mark_claim(run_id, run[2])
    redis.call('PUBLISH', child_channel(run[2]), 'cancel' .. SEP .. run_id)
    return 'requested'
  end
  finalize(run_id, CANCELLED, reason, true, now_ms)
  return CANCELLED
end
