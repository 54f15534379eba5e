-- hand_back: give the runs of a child to others: it has died, it drains, or its host is silent. Rules S4.1, S9.3, S9.6, S9.8,
-- S10.4.
-- KEYS   1 prefix
--@argv now_ms:int child_id crashed cause tells:flag limit:int jobs[]
--       crashed: 'died' when the process died while it held the runs, 'broke' when a run broke the engine, else ''. cause: how the
--       process ended. tells: the caller has a broker, and sends the hints. limit: hand back so many at most. jobs: the runs, or
--       the steps that others have offered, to hand back; none for all that the child holds
-- Reply  {how many were handed back, how many are left, hints}
-- Repeat finds them handed back, and gives 0
-- A work message is asked for even if one is marked as under way: that one may have died with the child. For a caller without a
-- broker the mark is removed, so that beat sends a message in its next turn.
-- A run that crashed too often is failed by its next owner.
local held = {}
for job in jobs do held[#held + 1] = job end
if count_of(jobs) == 0 then held = redis.call('HKEYS', claims_key(child_id)) end
-- A run whose next crash would be its last executes while no other such run does in its process: it is on trial. A crash is blamed
-- on the run on trial, and not on those that waited for their own trial. Runs with more crashes left go on all at once (S9.3).
-- By run: whether this crash is noted, however many steps of the run were under way in the process.
local is_noted = {}
local function note_crash(key, is_certain)
  if crashed == '' or is_noted[key] then return end
  is_noted[key] = true
  local before = redis.call('HMGET', key, 'crashes', 'trial', 'function')
  redis.call('HDEL', key, 'trial')
  local most = settings_of(before[3]).max_crashes or redis.call('HGET', app_key(app_of(before[3])), 'max_crashes')
  local last_chance = tonumber(most or 3) - 1
  local waited = tonumber(before[1] or 0) >= math.max(1, last_chance) and not before[2]
  if waited and not is_certain then return end
  redis.call('HINCRBY', key, 'crashes', 1)
  local log = redis.call('HGET', key, 'crash_log')
  redis.call('HSET', key, 'crash_log', (log and log .. '; ' or '') .. cause)
end
local function ask_for_work(fn, queue)
  if tells then
    if not is_paused(fn) then hint(app_of(fn), queue, now_ms, true) end
  else
    redis.call('HDEL', prefix .. 'hints', app_of(fn) .. SEP .. queue)
  end
end
local function hand_back_step(run_id, step_key)
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  local op = packed and cmsgpack.unpack(packed)
  if not op or op.state ~= 'taken' or op.by ~= child_id then
    -- The step was dropped while it executed in the child (see `unlist`); its places are free from now on.
    free_place(redis.call('HGET', run_key(run_id), 'lane'), job_of(run_id, step_key), now_ms, not tells)
    return 0
  end
  op.state = 'offer'
  redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
  note_crash(run_key(run_id), true)
  local run = redis.call('HMGET', run_key(run_id), 'function', 'queue', 'lane', 'by')
  if run[4] then mark_claim(run_id, run[4]) end
  local queue = run[2] or DEFAULT_QUEUE
  offer_step(run_id, step_key, now_ms, true)
  ask_for_work(run[1], queue)
  free_place(run[3], job_of(run_id, step_key), now_ms, not tells)
  return 1
end
-- A run that is to be cancelled is ended by its next owner. Nobody claims runs of a paused function, so those end here (S10.4).
local function end_cancelled(run_id, reason)
  --@late finalize
  finalize(run_id, CANCELLED, reason, true, now_ms)
end
local count = 0
for i = 1, math.min(#held, limit) do
  redis.call('HDEL', claims_key(child_id), held[i])
  local run_id, step_key = split_job(held[i])
  if step_key then count = count + hand_back_step(run_id, step_key) end
  run_id = held[i]
  local key = run_key(run_id)
  local run = redis.call('HMGET', key, 'by', 'function', 'queue', 'score', 'status', 'lane', 'cancel', 'created', 'watched')
  if run[1] == child_id and run[5] == RUNNING then
    count = count + 1
    -- A new fence, so that commits of the old owner are refused from now on.
    redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HSET', key, 'status', QUEUED)
    note_crash(key, crashed == 'broke')
    local queue = run[3] or DEFAULT_QUEUE
    move_run(run[2], queue, RUNNING, QUEUED)
    make_ready(run_id, run[2], queue, run[6], tonumber(run[4] or run[8]), now_ms, true)
    ask_for_work(run[2], queue)
    free_place(run[6], run_id, now_ms, not tells)
    if run[9] then tell_watchers(run_id) end
    if run[7] and is_paused(run[2]) then end_cancelled(run_id, run[7]) end
  end
end
local left = math.max(0, #held - limit)
if count_of(jobs) == 0 and left == 0 then
  redis.call('SREM', prefix .. 'worker:' .. string.match(child_id, '^(.*):'), child_id)
  redis.call('ZADD', prefix .. 'graves', now_ms, child_id)
  --@late end_running
  end_running(child_id)
end
return {count, left, hints}
