-- finalize: bring a run to its final status, once. Clears what it held (claim, ready entry, timers, waits, its cancel events, its
-- singleton, its debounce or batch), resolves the `invoke` it serves, dates its removal (S10.1), and tells of it when it failed or
-- was cancelled.
local function sweep_operations(run_id, now_ms)
  redis.call('DEL', joins_key(run_id))
  local steps = redis.call('HGETALL', steps_key(run_id))
  -- One command for many of them: a wide run may have thousands.
  local timers, dropped = {}, {}
  for i = 1, #steps, 2 do
    local op = cmsgpack.unpack(steps[i + 1])
    if is_pending(op) then
      if op.due then timers[#timers + 1] = op_timer(run_id, steps[i]) end
      op.due = nil
      unlist(run_id, steps[i], op, now_ms)
      op.state = 'dropped'
      dropped[#dropped + 1], dropped[#dropped + 2] = steps[i], cmsgpack.pack(op)
    end
  end
  on_pages('ZREM', prefix .. 'timers', timers)
  on_pages('HSET', steps_key(run_id), dropped)
end
-- body: the output or the error as JSON. has_pending: false only when the caller knows that no operation is pending.
local function finalize(run_id, status, body, has_pending, now_ms)
  local key = run_key(run_id)
  local run = redis.call('HMGET', key, 'status', 'function', 'queue', 'by', 'parent', 'start_timeout_ms', 'finish_timeout_ms',
    'lane', 'gathers', 'single', 'cancels', 'event', 'uid', 'keep', 'created')
  local fn, queue = run[2], run[3] or DEFAULT_QUEUE
  leave_census(run_id, fn, queue, run[1])
  note_ended(run_id, fn, status, run[15], now_ms)
  if run[1] == QUEUED then remove_ready(run_id, fn, queue, run[8], now_ms) end
  if run[1] == SCHEDULED or run[1] == WAITING then clear_timer('start' .. SEP .. run_id) end
  if run[1] == RUNNING then
    redis.call('HDEL', claims_key(run[4]), run_id)
    free_place(run[8], run_id, now_ms)
  end
  if run[6] then clear_timer('start_timeout' .. SEP .. run_id) end
  if run[7] then clear_timer('finish_timeout' .. SEP .. run_id) end
  if run[9] then redis.call('DEL', prefix .. run[9]) end
  if run[11] then
    remove_cancels(run_id, run[11])
    redis.call('HDEL', key, 'cancels')
  end
  if has_pending then sweep_operations(run_id, now_ms) end
  redis.call('HSET', key, 'status', status, 'ended', now_ms, status == COMPLETED and 'output' or 'error', body)
  keep_until(run_id, now_ms + kept_for(fn, status, run[14]))
  if run[5] then
    local parent_id, step_key = parent_of(run[5])
    if status == COMPLETED then
      resolve(parent_id, step_key, {data = body}, now_ms, 'invoke', run_id)
    else
      local cause = cjson.decode(body)
      local error = {name = cause.name, message = cause.message, stack = cause.stack}
      resolve(parent_id, step_key, {error = error}, now_ms, 'invoke', run_id)
    end
  end
  if run[10] then leave_singleton(run[10], run_id, now_ms) end
  if status == FAILED or status == CANCELLED then
    tell_end(run_id, fn, status, event_of(run_id, run[12], run[13]) or 'null', body, now_ms)
  end
  redis.call('PUBLISH', done_channel(run_id), status)
end
