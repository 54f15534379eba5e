-- debounce: the first event makes a run that starts later; the events that follow move its start, and the last one is its event
-- (S7.5). `debounce:<id>` is a hash: the run, when its first and its last event came, when it is due; ts, uid and earliest start of
-- the event that it has. The last event is the one with the latest ts: routers that work side by side may take events in another
-- order than that in which they were sent.
--@at limited: flow.debounce
--@at delay: flow.debounce
--@at join: if flow.debounce then landed, text = join_debounce(run, flow, now_ms) end
local function debounce_due(debounce, first_ms, start_at, now_ms)
  local due_ms = now_ms + debounce[2]
  if debounce[3] > 0 then due_ms = math.min(due_ms, first_ms + debounce[3]) end
  return math.max(due_ms, start_at)
end
local function set_debounced_event(run, run_id, flow)
  local fields = {'version', run.version}
  redis.call('HDEL', run_key(run_id), 'event', 'uid')
  add_event(fields, run_id, run.event, run.uid)
  redis.call('HSET', run_key(run_id), unpack(fields))
  if flow.lane then redis.call('HSET', run_key(run_id), 'lane', flow.lane) end
  if flow.single then redis.call('HSET', run_key(run_id), 'single', flow.single[1], 'single_mode', flow.single[2]) end
  local old = redis.call('HMGET', run_key(run_id), 'cancels', 'created')
  if old[1] then remove_cancels(run_id, old[1]) end
  if flow.cancels then
    redis.call('HSET', run_key(run_id), 'cancels', add_cancels(run_id, flow.cancels, run.seq, tonumber(old[2])))
  elseif old[1] then
    redis.call('HDEL', run_key(run_id), 'cancels')
  end
end
local function debounced_text(run_id) return 'debounced: run ' .. run_id .. ' has a later event' end
-- The run whose window the event falls into, and what the event's record says; nil when the event makes a run, which then starts at
-- run.start_at_ms.
local function join_debounce(run, flow, now_ms)
  local debounce = flow.debounce
  local name, ts, uid = 'debounce:' .. debounce[1], debounce[4], debounce[5]
  local window = redis.call('HMGET', prefix .. name, 'run', 'first', 'due', 'ts', 'uid', 'start_at', 'last')
  local run_id = window[1]
  -- The window is over, and the timer of its run is about to fire.
  if run_id and tonumber(window[3]) <= now_ms then
    start_scheduled(run_id, now_ms)
    run_id = nil
  end
  if not run_id then
    local due_ms = debounce_due(debounce, now_ms, run.start_at_ms, now_ms)
    redis.call('HSET', prefix .. name, 'run', run.id, 'first', now_ms, 'last', now_ms, 'due', due_ms, 'ts', ts, 'uid', uid,
      'start_at', run.start_at_ms)
    run.start_at_ms, run.fields = due_ms, {'gathers', name, 'due', due_ms}
    return nil
  end
  local last_ts, last_uid, start_at, text = tonumber(window[4]), window[5], tonumber(window[6]), run_id
  if ts > last_ts or ts == last_ts and uid >= last_uid then
    start_at = run.start_at_ms
    set_debounced_event(run, run_id, flow)
    redis.call('HSET', prefix .. name, 'ts', ts, 'uid', uid, 'start_at', start_at)
    if redis.call('EXISTS', event_key(last_uid)) == 1 then
      redis.call('HSET', event_key(last_uid), 'fn:' .. run.fn, debounced_text(run_id))
    end
  else
    text = debounced_text(run_id)
  end
  -- A command that the network has held up brings an old time, which must not move the start forward.
  local last_ms = math.max(tonumber(window[7] or 0), now_ms)
  local due_ms = debounce_due(debounce, tonumber(window[2]), start_at, last_ms)
  redis.call('HSET', prefix .. name, 'due', due_ms, 'last', last_ms)
  redis.call('HSET', run_key(run_id), 'due', due_ms, 'score', due_ms - (flow.ahead or 0))
  set_timer(due_ms, 'start' .. SEP .. run_id)
  if run.start_timeout_ms > 0 then set_timer(due_ms + run.start_timeout_ms, 'start_timeout' .. SEP .. run_id) end
  return run_id, text
end
