-- finish_runs: end runs, for their owner. Rules S5.5, S6.2, S9.4.
-- KEYS   1 prefix
--@argv child_id
--@together ends[run_id fence status body has_pending:flag now_ms remove_at_ms]
--       body: output or error (JSON). has_pending: the run has pending operations. remove_at_ms: when the run is to be removed
-- Reply  {hints, for each run 'fenced' (the claim is lost) | 'cancel' (it was cancelled meanwhile: finish it so) | 'ok'}
-- Repeat gives 'ok', since the run has ended with the same fence and status
local ids = {}
for run_id in ends do ids[#ids + 1] = run_id end
local ended = {}
-- By lane, the runs that give their places back.
local freed, freed_ms = {}, nil
-- Does what `finalize` does, for a completed run that holds nothing but places.
local function complete(run_id, body, now_ms, remove_at_ms, fn, queue)
  if body == 'null' then
    redis.call('HSET', run_key(run_id), 'status', COMPLETED, 'ended', now_ms)
  else
    redis.call('HSET', run_key(run_id), 'status', COMPLETED, 'ended', now_ms, 'output', body)
  end
  redis.call('PUBLISH', done_channel(run_id), COMPLETED)
  leave_census(run_id, fn, queue, RUNNING)
  note_ended(run_id, fn, COMPLETED, nil, now_ms)
  keep_until(run_id, remove_at_ms)
  ended[#ended + 1] = run_id
  return 'ok'
end
local function finish(run_id, fence, status, body, has_pending, now_ms, remove_at_ms)
  local run = redis.call('HMGET', run_key(run_id), 'by', 'fence', 'status', 'cancel', 'tied', 'lane', 'function', 'queue')
  -- A repeat whose first reply was lost.
  if run[2] == fence and run[3] == status then return 'ok' end
  if run[1] ~= child_id or run[2] ~= fence or run[3] ~= RUNNING then return 'fenced' end
  if run[4] and status ~= CANCELLED then return 'cancel' end
  if status ~= COMPLETED or has_pending or run[5] and run[5] ~= 'lane' then
    --@late finalize free_places
    finalize(run_id, status, body, has_pending, tonumber(now_ms))
    return 'ok'
  end
  local lane = run[6]
  if lane then
    freed[lane] = freed[lane] or {}
    freed[lane][#freed[lane] + 1] = run_id
    freed_ms = now_ms
  end
  return complete(run_id, body, now_ms, remove_at_ms, run[7], run[8] or DEFAULT_QUEUE)
end
local reply, claims, is_over = {hints}, values_of(claims_key(child_id), ids), {}
for run_id, fence, status, body, has_pending, now_ms, remove_at_ms in ends do
  local claim = claims[#reply] and not is_over[run_id] and plain_claim(claims[#reply])
  is_over[run_id] = true
  if claim and claim[1] == fence and status == COMPLETED and not has_pending then
    reply[#reply + 1] = complete(run_id, body, now_ms, remove_at_ms, claim[2], claim[3])
  else
    reply[#reply + 1] = finish(run_id, fence, status, body, has_pending, now_ms, remove_at_ms)
  end
end
if ended[1] then on_pages('HDEL', claims_key(child_id), ended) end
for lane, run_ids in pairs(freed) do
  --@late finalize free_places
  free_places(lane, run_ids, tonumber(freed_ms))
end
return reply
