-- create_run: make a run, and put it where it belongs: claimed at once, ready, or delayed.
-- run is a table: id, fn, queue, event (JSON), uid (of the event, when there is a record of it: `event` and `frame` are then as the
-- record keeps them), cause, version, start_at_ms, start_timeout_ms, finish_timeout_ms (each 0 for none), parent (or ''), flow (a
-- packed table, see FlowControl.plan, or '').
-- now is the text of the argument: a number would be made a text anew at each use.
-- Returns the fence when `child_id` got the claim, else 0; and what `admit` said when no run is made.
-- create_run_once leaves a run that exists as it is, so that routing an event twice makes one run (S1.6). It tells the fence again
-- to a child that holds the run and missed the first reply.
local function known_fence(run_id, child_id)
  local known = redis.call('HMGET', run_key(run_id), 'function', 'by', 'fence', 'status')
  if not known[1] then return nil end
  return known[2] == child_id and known[4] == RUNNING and tonumber(known[3]) or 0
end
-- Whether a run that is made now may execute at once: older runs go first (S7.2), and the run's limits must have room.
local function is_first(fn, queue)
  local key = ready_key(fn, queue)
  if has_ready[key] == nil then has_ready[key] = redis.call('EXISTS', key) == 1 end
  return not has_ready[key] and not is_paused(queue_member(app_of(fn), queue))
end
local function may_start(fn, queue, lane, now_ms)
  if not lane then return is_first(fn, queue) end
  if is_paused(queue_member(app_of(fn), queue)) then return false end
  return redis.call('EXISTS', lanes_key(fn, queue), lane_key(fn, queue, lane)) == 0 and not full_limit(fn, lane)
    and opens_at(fn, lane) <= now_ms
end
-- Whether a run is tied: something hangs on it, or it did not simply come by the event that its id begins with.
local function is_tied(run, lane, is_scored)
  return run.fields or lane or run.keep or is_scored or run.parent ~= '' or run.finish_timeout_ms > 0
    or run.start_timeout_ms > 0 or run.cause ~= DEFAULT_CAUSE or event_uid(run.id) ~= run.uid
end
-- Add to the fields of a new run what hangs on it. The field `tied` is 'lane' when its end only has to give back places, else
-- 'more'.
local function tie(fields, run, lane, now)
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  for _, part in ipairs(run.fields or {}) do fields[#fields + 1] = part end
  if lane then add('lane', lane) end
  if run.parent ~= '' then
    add('parent', run.parent)
    redis.call('ZADD', children_key((parent_of(run.parent))), now, run.id)
  end
  if run.finish_timeout_ms > 0 then add('finish_timeout_ms', run.finish_timeout_ms) end
  if run.start_timeout_ms > 0 then add('start_timeout_ms', run.start_timeout_ms) end
  if run.keep then add('keep', run.keep) end
  add('tied', (run.fields or run.parent ~= '' or run.finish_timeout_ms > 0 or run.start_timeout_ms > 0) and 'more' or 'lane')
end
local function create_run(run, child_id, now)
  local key, now_ms = run_key(run.id), tonumber(now)
  local flow = run.flow ~= '' and cmsgpack.unpack(run.flow)
  run.keep = flow and flow.keep
  local is_limited = flow and (
    --@any limited
  )
  if is_limited or is_paused(run.fn) then
    --@late admit
    local landed = admit(run, flow, now_ms)
    if landed then return 0, landed end
  end
  local lane = flow and flow.lane
  local is_delayed = run.start_at_ms > now_ms
  local score = is_delayed and run.start_at_ms or now
  if flow and flow.ahead then score = score - flow.ahead end
  local is_claimed = child_id ~= '' and not is_delayed and not run.behind and may_start(run.fn, run.queue, lane, now_ms)
  if is_claimed and lane then
    lane = count_start(run.fn, lane, now_ms)
    take_places(lane, run.id)
  end
  local status = is_claimed and RUNNING or (is_delayed or run.behind) and SCHEDULED or QUEUED
  enter_census(run.id, run.fn, run.queue, status, now)
  local fields = {'function', run.fn, 'created', now, 'version', run.version, 'status', status}
  add_origin(fields, run)
  if score ~= now then
    fields[#fields + 1] = 'score'
    fields[#fields + 1] = score
  end
  if is_claimed then
    for _, part in ipairs({'by', child_id, 'fence', '1', 'started', now}) do fields[#fields + 1] = part end
  end
  local tied = is_tied(run, lane, score ~= now)
  if tied then tie(fields, run, lane, now) end
  redis.call('HSET', key, unpack(fields))
  if is_claimed then
    note_claimant(child_id, now_ms)
    redis.call('HSET', claims_key(child_id), run.id, claim_text(1, not tied, run.fn, run.queue))
    start_clocks(run.id, nil, run.finish_timeout_ms > 0 and run.finish_timeout_ms, now_ms)
    return 1
  end
  local due_ms = is_delayed and run.start_at_ms or now_ms
  if run.start_timeout_ms > 0 then set_timer(due_ms + run.start_timeout_ms, 'start_timeout' .. SEP .. run.id) end
  if is_delayed then
    set_timer(run.start_at_ms, 'start' .. SEP .. run.id)
  elseif not run.behind then
    make_ready(run.id, run.fn, run.queue, lane, score, now_ms)
  end
  return 0
end
local function create_run_once(run, child_id, now)
  local fence = known_fence(run.id, child_id)
  if fence then return fence end
  return create_run(run, child_id, now)
end
