-- create_run: make a run and put it where it belongs: claimed at once, ready, or delayed. Needs keys, hint, ready, timer, claim.
-- run: id, fn, queue, event (JSON), cause, version, start_at (ms or 0), start_ms, finish_ms (timeouts or 0), parent (or '').
-- Returns the fence when `child_id` got the claim, else 0. A run that exists is left as it is, so that routing an event twice
-- makes one run (S1.6); its fence is told again to the child that already holds it and missed the first reply.
local function create_run(run, child_id, now_ms)
  local key = run_key(run.id)
  local known = redis.call('HMGET', key, 'function', 'by', 'fence')
  if known[1] then return (child_id ~= '' and known[2] == child_id) and tonumber(known[3]) or 0 end
  local score = math.max(now_ms, run.start_at)
  local can_start = run.start_at <= now_ms
  redis.call('HSET', key, 'function', run.fn, 'queue', run.queue, 'event', run.event, 'cause', run.cause, 'created', now_ms,
    'score', score, 'version', run.version, 'status', can_start and 'queued' or 'scheduled')
  if run.parent ~= '' then redis.call('HSET', key, 'parent', run.parent) end
  if run.finish_ms > 0 then redis.call('HSET', key, 'finish_ms', run.finish_ms) end
  if run.start_ms > 0 then
    redis.call('HSET', key, 'start_ms', run.start_ms)
    set_timer(score + run.start_ms, 'start_timeout' .. SEP .. run.id)
  end
  redis.call('ZADD', runs_key(run.fn), now_ms, run.id)
  if not can_start then
    set_timer(run.start_at, 'start' .. SEP .. run.id)
    return 0
  end
  -- Older runs go first: a child may take this one at once only when none is ready (S7.2).
  if child_id ~= '' and redis.call('EXISTS', ready_key(run.fn)) == 0 then return take_claim(run.id, child_id, now_ms) end
  make_ready(run.id, run.fn, run.queue, score, now_ms)
  return 0
end
