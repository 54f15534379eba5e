-- cancel_runs: cancel runs: each at once if nothing of it executes, else once its executing steps have ended. Rule S6.2.
-- KEYS   1 prefix
--@argv now_ms:int reason run_ids[]
--       reason: the error of all these runs (JSON)
-- Reply  {outcomes, hints}. Outcomes of the first runs, at least of one: 'unknown' (no such run) | 'final' (it has ended) |
--        'requested' (it executes, and its owner is told) | 'cancelled'. The script stops before it works for too long, since a run
--        with many steps takes longer: the caller asks again for the other runs
-- Repeat gives 'final' or 'requested'; the first reason stands
local MOST_WORK = 1000
local outcomes, work = {}, 0
for run_id in run_ids do
  work = work + 20 + redis.call('HLEN', steps_key(run_id))
  if work > MOST_WORK and outcomes[1] then break end
  outcomes[#outcomes + 1] = cancel(run_id, reason, now_ms)
end
return {outcomes, hints}
