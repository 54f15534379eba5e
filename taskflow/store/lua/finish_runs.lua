-- finish_runs: the owner of some runs brings them to their end. Rules S5.5, S6.2, S9.4.
-- KEYS   1 prefix
--@argv child_id
--@together ends[run_id fence status body has_pending:flag now_ms remove_at_ms]
--       body: output or error (JSON). has_pending: operations of the run are pending. remove_at_ms: when the run is to be removed
-- Reply  {hints, for each run 'fenced' | 'cancel' (cancelled meanwhile: finish it so) | 'ok'}
local owned = {}
-- By lane, the runs that gave their places back.
local freed, freed_ms = {}, nil
local function finish(run_id, fence, status, body, has_pending, now_ms, remove_at_ms)
  local key = run_key(run_id)
  local run = redis.call('HMGET', key, 'by', 'fence', 'status', 'cancel', 'tied', 'lane', 'function', 'queue')
  -- A repeat whose first reply was lost.
  if run[2] == fence and run[3] == status then return 'ok' end
  if run[1] ~= child_id or run[2] ~= fence or run[3] ~= RUNNING then return 'fenced' end
  if run[4] and status ~= CANCELLED then return 'cancel' end
  if status ~= COMPLETED or has_pending or run[5] and run[5] ~= 'lane' then
    --@late finalize
    finalize(run_id, status, body, has_pending, tonumber(now_ms))
    return 'ok'
  end
  -- What `finalize` does, for the common case of a run that nothing but places hangs on: half of the time.
  if body == 'null' then
    redis.call('HSET', key, 'status', COMPLETED, 'ended', now_ms)
  else
    redis.call('HSET', key, 'status', COMPLETED, 'ended', now_ms, 'output', body)
  end
  redis.call('PUBLISH', done_channel(run_id), COMPLETED)
  local lane = run[6]
  if lane then
    freed[lane] = freed[lane] or {}
    freed[lane][#freed[lane] + 1] = run_id
    freed_ms = now_ms
  end
  leave_census(run_id, run[7], run[8] or DEFAULT_QUEUE, RUNNING)
  note_ended(run_id, run[7], COMPLETED, nil, tonumber(now_ms))
  owned[#owned + 1] = run_id
  keep_until(run_id, tonumber(remove_at_ms))
  return 'ok'
end
local reply = {hints}
for run_id, fence, status, body, has_pending, now_ms, remove_at_ms in ends do
  reply[#reply + 1] = finish(run_id, fence, status, body, has_pending, now_ms, remove_at_ms)
end
if owned[1] then on_pages('HDEL', claims_key(child_id), owned) end
for lane, run_ids in pairs(freed) do free_places(lane, run_ids, tonumber(freed_ms)) end
return reply
