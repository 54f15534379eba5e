-- claim: who owns a run, and what that owner may do. Needs keys, timer.
-- A claim is the field `by` and a fence that grows with every change of owner; each commit must name both (S9.4).
local function take_claim(run_id, child_id, now_ms)
  local fence = redis.call('HINCRBY', run_key(run_id), 'fence', 1)
  local past = redis.call('HMGET', run_key(run_id), 'started', 'finish_ms', 'start_ms')
  if past[1] then
    redis.call('HSET', run_key(run_id), 'status', 'running', 'by', child_id)
  else
    redis.call('HSET', run_key(run_id), 'status', 'running', 'by', child_id, 'started', now_ms)
    if past[3] then clear_timer('start_timeout' .. SEP .. run_id) end
    if past[2] then set_timer(now_ms + tonumber(past[2]), 'finish_timeout' .. SEP .. run_id) end
  end
  redis.call('HSET', claims_key(child_id), run_id, fence)
  return fence
end
local function owns(run_id, child_id, fence)
  local run = redis.call('HMGET', run_key(run_id), 'by', 'fence')
  return run[1] == child_id and run[2] == fence
end
