-- create_run: make a run and put it where it belongs: claimed at once, ready, or delayed. Needs keys, hint, ready, timer, claim.
-- run: id, fn, queue, event (JSON), cause, version, start_at (ms or 0), start_ms, finish_ms (timeouts or 0), parent (or '').
-- now is ARGV's text: a number would be formatted anew at each use.
-- Returns the fence when `child_id` got the claim, else 0. A run that exists is left as it is, so that routing an event twice
-- makes one run (S1.6); its fence is told again to the child that already holds it and missed the first reply.
local function known_fence(run_id, child_id)
  local known = redis.call('HMGET', run_key(run_id), 'function', 'by', 'fence', 'status')
  if not known[1] then return nil end
  return known[2] == child_id and known[4] == 'running' and tonumber(known[3]) or 0
end
local function create_run(run, child_id, now)
  local key, now_ms = run_key(run.id), tonumber(now)
  local is_delayed = run.start_at > now_ms
  local score = is_delayed and run.start_at or now
  -- Older runs go first: a child may take this one at once only when none is ready (S7.2).
  local is_claimed = child_id ~= '' and not is_delayed and redis.call('EXISTS', ready_key(run.fn)) == 0
  redis.call('ZADD', runs_key(run.fn), now, run.id)
  if is_claimed then
    redis.call('HSET', key, 'function', run.fn, 'queue', run.queue, 'event', run.event, 'cause', run.cause, 'created', now,
      'score', score, 'version', run.version, 'status', 'running', 'by', child_id, 'fence', '1', 'started', now)
    redis.call('HSET', claims_key(child_id), run.id, '1')
  else
    redis.call('HSET', key, 'function', run.fn, 'queue', run.queue, 'event', run.event, 'cause', run.cause, 'created', now,
      'score', score, 'version', run.version, 'status', is_delayed and 'scheduled' or 'queued')
  end
  if run.parent ~= '' then redis.call('HSET', key, 'parent', run.parent) end
  if run.finish_ms > 0 then redis.call('HSET', key, 'finish_ms', run.finish_ms) end
  if run.start_ms > 0 then redis.call('HSET', key, 'start_ms', run.start_ms) end
  if is_claimed then
    start_clocks(run.id, nil, run.finish_ms > 0 and run.finish_ms, now_ms)
    return 1
  end
  if run.start_ms > 0 then set_timer(score + run.start_ms, 'start_timeout' .. SEP .. run.id) end
  if is_delayed then
    set_timer(run.start_at, 'start' .. SEP .. run.id)
  else
    make_ready(run.id, run.fn, run.queue, score, now_ms)
  end
  return 0
end
local function create_run_once(run, child_id, now)
  return known_fence(run.id, child_id) or create_run(run, child_id, now)
end
