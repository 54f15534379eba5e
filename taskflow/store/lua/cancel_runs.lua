-- cancel_runs: cancel runs, each at once if nothing of it executes, else after its executing steps. Rule S6.2.
-- The script stops before it has worked too long, as runs with many steps take longer: the caller asks again for the rest.
-- KEYS   1 prefix
--@argv now_ms:int reason run_ids[]
--       reason: an error (JSON), the same for all
-- Reply  {outcomes, hints}; an outcome is 'unknown' | 'final' | 'requested' | 'cancelled', for the first runs, and at least for one
local MOST_WORK = 1000
local outcomes, work = {}, 0
for run_id in run_ids do
  work = work + 20 + redis.call('HLEN', steps_key(run_id))
  if work > MOST_WORK and outcomes[1] then break end
  outcomes[#outcomes + 1] = cancel(run_id, reason, now_ms)
end
return {outcomes, hints}
