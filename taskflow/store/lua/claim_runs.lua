-- claim_runs: a child takes the best ready runs of a queue. Rules S7.1, S7.2, S7.3, S7.11, S9.4.
-- KEYS   1 prefix
--@argv now_ms child_id app_id queue limit:int by_hint:flag unknown_ids[] replayed_ids[]
--       limit: take so many at most. by_hint: a work message brought the child here. unknown_ids: functions that this child does
--       not know, since their code base is older or newer than the child's: their runs are left to others. replayed_ids: runs
--       that the child has replayed for offered steps, and whose memos it does not need
-- Reply  {what is left: 0 (nothing) | 1 (ready runs) | 2 (only runs of unknown functions, and a message brought the child here),
--        hints, claimed}
--        claimed: {{run_id, fence, function_id, event (JSON), attempt, started (ms), created (ms), cause, crashes, reason of a
--        cancel or '', steps: {step_key, operation, ...} or '', step_key of an offered step or '', the other events of a batch or
--        ''}, ...}; '' stands for no steps and no events, since each table in a reply takes 0.5 us. A run that is claimed for the
--        first time and that nothing hangs on is {run_id, function_id, frame and data of its event (see includes/event), created}.
--        A further offered step of a run in this reply, and each of a run in replayed_ids, is {run_id, step_key, fence, operation}
-- Repeat takes further runs. Runs of a reply that was lost are in the child's claims: the child hands them back when it looks
if is_paused(queue_member(app_id, queue)) then return {0, hints, {}} end
local index = queue_key(app_id, queue)
local unknown = {}
for function_id in unknown_ids do
  unknown[function_id] = true
  unknown[function_id .. LANES] = true
end

-- The entry of the index whose best run is oldest, and the score from which on it is the next entry's turn.
local function best_entry()
  local heads = redis.call('ZRANGE', index, 0, 2 * count_of(unknown_ids) + 1, 'WITHSCORES')
  local entry
  for i = 1, #heads, 2 do
    if not unknown[heads[i]] then
      if entry then return entry, tonumber(heads[i + 1]) end
      entry = heads[i]
    end
  end
  return entry, math.huge
end

local claimed, claims = {}, {}
-- By run: whether the child has its memos, or gets them in this reply.
local has_memos = {}
for run_id in replayed_ids do has_memos[run_id] = true end
-- A step of a run whose memos the child has.
local function take_further(member, run_id, step_key, lane)
  local fence, packed = take_step(run_id, step_key, child_id)
  if not fence then return false end
  if lane then take_places(lane, member) end
  claims[#claims + 1] = member
  claims[#claims + 1] = fence
  claimed[#claimed + 1] = {run_id, step_key, fence, packed}
  if redis.call('HEXISTS', run_key(run_id), 'watched') == 1 then tell_watchers(run_id) end
  return true
end
-- member: a run, or a step that a run offers (S4.4). lane: what limits it; nil for nothing. Returns false when the step is not
-- offered any more.
local function take_any(member, lane)
  local run_id, step_key = split_job(member)
  if has_memos[run_id] then return take_further(member, run_id, step_key, lane) end
  run_id = run_id or member
  local key = run_key(run_id)
  local run = redis.call('HMGET', key, 'function', 'event', 'created', 'cause', 'fence', 'start_timeout_ms',
    'finish_timeout_ms', 'batched', 'kept', 'uid', 'watched', 'tied', 'expires')
  local fence, steps = tonumber(run[5] or 0) + 1, ''
  -- Most runs were never claimed before, and have none of these.
  local past = run[5] and redis.call('HMGET', key, 'started', 'attempt', 'crashes', 'cancel', 'dirty') or {}
  local started = past[1]
  -- Beat cancels a run that has expired, but it may be away: then the child does.
  if run[13] and not started and tonumber(run[13]) <= tonumber(now_ms) then past[4] = EXPIRED end
  if step_key then
    fence = take_step(run_id, step_key, child_id)
    if not fence then return false end
    steps = redis.call('HGETALL', steps_key(run_id))
    has_memos[run_id] = true
  elseif started then
    redis.call('HSET', key, 'status', RUNNING, 'by', child_id, 'fence', fence, 'claimed', now_ms)
    steps = redis.call('HGETALL', steps_key(run_id))
    redis.call('DEL', joins_key(run_id))
    if past[5] then redis.call('HDEL', key, 'dirty') end
  else
    local fields = {'status', RUNNING, 'by', child_id, 'fence', fence, 'started', now_ms}
    local limits = lane and count_start(run[1], lane, tonumber(now_ms))
    if limits and limits ~= lane then fields[9], fields[10] = 'lane', limits end
    redis.call('HSET', key, unpack(fields))
    -- A rerun has memos of the run that it repeats.
    if run[9] then steps = redis.call('HGETALL', steps_key(run_id)) end
    if run[6] or run[7] then start_clocks(run_id, run[6], run[7], tonumber(now_ms)) end
  end
  if lane then take_places(lane, member) end
  claims[#claims + 1] = member
  if step_key then
    claims[#claims + 1] = fence
  else
    move_run(run[1], queue, QUEUED, RUNNING)
    claims[#claims + 1] = claim_text(fence, not (run[11] or run[12] or past[2] or past[3] or past[4]), run[1], queue)
  end
  local more = run[8] and redis.call('LRANGE', batch_key(run_id), 0, -1) or ''
  claimed[#claimed + 1] = {run_id, fence, run[1], event_of(run_id, run[2], run[10]), tonumber(past[2] or 0),
    tonumber(started or now_ms), tonumber(run[3]), run[4] or DEFAULT_CAUSE, tonumber(past[3] or 0), past[4] or '',
    steps, step_key or '', more}
  if run[11] then tell_watchers(run_id) end
  return true
end

-- Most runs have nothing that hangs on them (see is_tied), and nobody has claimed them yet. All that is to be known of such a run
-- is its event, and when it was made, which is its score.
local function take(member, fn, score)
  local key, dash = run_key(member), string.find(member, '-', 1, true)
  local run = dash and redis.call('HMGET', key, 'tied', 'fence', 'watched', 'event')
  if not run or run[1] or run[2] or run[3] or string.find(member, SEP, 1, true) then return take_any(member) end
  -- A task's run has the text of its call by itself; of others it is kept as a whole, or the run has it by now.
  local event = run[4] and {'', run[4]} or redis.call('HMGET', event_key(string.sub(member, 1, dash - 1)), 'frame', 'data')
  if not event[2] then return take_any(member) end
  redis.call('HSET', key, 'status', RUNNING, 'by', child_id, 'fence', '1', 'started', now_ms)
  move_run(fn, queue, QUEUED, RUNNING)
  claims[#claims + 1] = member
  claims[#claims + 1] = claim_text(1, true, fn, queue)
  claimed[#claimed + 1] = {member, fn, event[1], event[2], score}
end

-- A function that has ready runs left.
local left
-- Take runs of a function without limits, up to the score from which on it is another function's turn.
local function take_ready(fn, turn_ends)
  local best = redis.call('ZRANGE', ready_key(fn, queue), 0, limit - #claimed - 1, 'WITHSCORES')
  local taken = 0
  for i = 1, #best, 2 do
    if taken > 0 and tonumber(best[i + 1]) > turn_ends then break end
    take(best[i], fn, best[i + 1])
    taken = taken + 1
  end
  if taken > 0 then redis.call('ZREMRANGEBYRANK', ready_key(fn, queue), 0, taken - 1) end
  local head = redis.call('ZRANGE', ready_key(fn, queue), 0, 0, 'WITHSCORES')
  if head[1] then
    redis.call('ZADD', index, head[2], fn)
    left = fn
  else
    redis.call('ZREM', index, fn)
    if left == fn then left = nil end
  end
end

-- Take the best run of the lane whose turn it is, or put the lane aside until its limits have room.
local function serve(fn, lane, turn, head)
  local full = full_limit(fn, lane)
  if full then return block_lane(queue, fn, lane, turn, full, tonumber(now_ms)) end
  local opens_ms = opens_at(fn, lane)
  if opens_ms > tonumber(now_ms) then
    redis.call('ZREM', lanes_key(fn, queue), lane)
    return set_timer(opens_ms, 'lane' .. SEP .. lane_member(queue, fn, lane))
  end
  redis.call('ZREM', lane_key(fn, queue, lane), head)
  take_any(head, lane)
  if redis.call('EXISTS', lane_key(fn, queue, lane)) == 1 then
    redis.call('ZADD', lanes_key(fn, queue), string.format('%.3f', math.max(tonumber(turn) + TURN_MS, tonumber(now_ms))), lane)
  else
    redis.call('ZREM', lanes_key(fn, queue), lane)
  end
end
-- The lane whose turn it is, its turn, and its best run with its score.
local function next_lane(fn)
  local first = redis.call('ZRANGE', lanes_key(fn, queue), 0, 0, 'WITHSCORES')
  if not first[1] then return nil end
  local head = redis.call('ZRANGE', lane_key(fn, queue, first[1]), 0, 0, 'WITHSCORES')
  return first[1], first[2], head[1], head[2]
end
-- Take runs of a function with limits: one of each lane in turn (S7.11).
local function take_from_lanes(fn, turn_ends)
  local before = #claimed
  local lane, turn, head, score = next_lane(fn)
  while lane and #claimed < limit and (#claimed == before or tonumber(score) <= turn_ends) do
    serve(fn, lane, turn, head)
    lane, turn, head, score = next_lane(fn)
  end
  if lane then redis.call('ZADD', index, score, fn .. LANES) else redis.call('ZREM', index, fn .. LANES) end
end

while #claimed < limit do
  local entry, turn_ends = best_entry()
  if not entry then break end
  if string.sub(entry, -1) == LANES then take_from_lanes(string.sub(entry, 1, -2), turn_ends)
  else take_ready(entry, turn_ends) end
end
if claims[1] then
  note_claimant(child_id, now_ms)
  on_pages('HSET', claims_key(child_id), claims)
end

local has_more = (left or best_entry()) and 1 or 0
if by_hint then
  -- The work message is used up. If work is left, another message wakes another child; if not, the next ready run asks for one.
  if has_more == 1 and claimed[1] then hint(app_id, queue, tonumber(now_ms), true)
  elseif has_more == 0 and tonumber(count_of(unknown_ids)) > 0 and redis.call('EXISTS', index) == 1 then
    -- The child passes the message on.
    has_more = 2
    redis.call('HSET', prefix .. 'hints', app_id .. SEP .. queue, now_ms)
  else redis.call('HDEL', prefix .. 'hints', app_id .. SEP .. queue) end
end
return {has_more, hints, claimed}
