-- finish_runs: the owner of some runs brings them to their end. Rules S5.5, S6.2, S9.4.
-- KEYS   1 prefix
-- ARGV   1 child_id   then for each run: run_id, fence, status, output or error (JSON), '1' when operations are pending, now_ms, when the run
--        is to be removed (ms)
-- Reply  {hints, for each run 'fenced' | 'cancel' (cancelled meanwhile: finish it so) | 'ok'}
--@include keys hint listing timer lanes ready unready
local function load_finalize()
--@include wake wait resolve singleton cancel_index final_event finalize
return finalize
end
local child_id = ARGV[1]
local ended, expiry, finalize_late = {}, {}, nil
local freed, freed_ms = {}, nil  -- by lane, the runs that gave their places back
local function finish(run_id, fence, status, body, pending, now_ms, remove_at)
  local key = run_key(run_id)
  local run = redis.call('HMGET', key, 'by', 'fence', 'status', 'cancel', 'tied', 'lane')
  if run[2] == fence and run[3] == status then return 'ok' end  -- a repeat whose first reply was lost
  if run[1] ~= child_id or run[2] ~= fence or run[3] ~= 'running' then return 'fenced' end
  if run[4] and status ~= 'cancelled' then return 'cancel' end
  if status ~= 'completed' or pending ~= '' or run[5] and run[5] ~= 'lane' then
    finalize_late = finalize_late or load_finalize()
    finalize_late(run_id, status, body, pending ~= '', tonumber(now_ms))
    return 'ok'
  end
  -- What `finalize` does, for the common case of a run that nothing but leases hangs on: half of the time.
  redis.call('HSET', key, 'status', 'completed', 'ended', now_ms, 'output', body)
  redis.call('PUBLISH', done_channel(run_id), 'completed')
  local lane = run[6]
  if lane then
    freed[lane] = freed[lane] or {}
    freed[lane][#freed[lane] + 1] = run_id
    freed_ms = now_ms
  end
  ended[#ended + 1] = run_id
  expiry[#expiry + 1] = remove_at
  expiry[#expiry + 1] = run_id
  return 'ok'
end
local reply = {hints}
for i = 2, #ARGV, 7 do
  reply[#reply + 1] = finish(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
end
if ended[1] then
  redis.call('HDEL', claims_key(child_id), unpack(ended))
  redis.call('ZADD', prefix .. 'expiry', unpack(expiry))
end
for lane, run_ids in pairs(freed) do release_all(lane, run_ids, tonumber(freed_ms)) end
return reply
