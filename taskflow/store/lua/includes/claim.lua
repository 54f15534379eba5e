-- claim: who owns a run, and what that owner may do.
-- A run is owned while its status is `running`, by the child in `by` (afterwards that is who executed it last). The fence
-- grows with every change of owner; each commit must name both (S9.4).
local function owns(run_id, child_id, fence)
  local run = redis.call('HMGET', run_key(run_id), 'by', 'fence', 'status')
  return run[1] == child_id and run[2] == fence and run[3] == RUNNING
end
-- The timers of a run that starts for the first time (S6.3); both may be nil.
local function start_clocks(run_id, start_timeout_ms, finish_timeout_ms, now_ms)
  if start_timeout_ms then clear_timer('start_timeout' .. SEP .. run_id) end
  if finish_timeout_ms then set_timer(now_ms + tonumber(finish_timeout_ms), 'finish_timeout' .. SEP .. run_id) end
end
