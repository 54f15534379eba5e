-- batch: one run for many events (S7.6). `batching:<id>` leads to the run that gathers them. The run has the first event in its
-- hash, and the others in the list `batch:<run_id>`.
-- An event for later runs alone: a batch starts when it is full, and could not wait for the time of one event.
--@at limited: flow.batch
--@at delay: flow.batch
--@at join: if flow.batch and not is_delayed then landed = join_batch(run, flow.batch, now_ms) end
local MAX_BATCH_BYTES = 4194304
-- The run that the event joined; nil if it makes a run, which starts at run.start_at_ms.
local function join_batch(run, batch, now_ms)
  local text = event_json(run.uid, run.frame, run.event)
  local name, size, bytes = 'batching:' .. batch[1], batch[2], #text
  local run_id = redis.call('GET', prefix .. name)
  local open = run_id and redis.call('HMGET', run_key(run_id), 'due', 'batched', 'bytes')
  -- The batch's time is over, and the timer of its run is about to fire.
  if open and tonumber(open[1]) <= now_ms then
    start_scheduled(run_id, now_ms)
    open = nil
  end
  if not open then
    if bytes >= MAX_BATCH_BYTES then return nil end
    run.start_at_ms = now_ms + batch[3]
    run.fields = {'gathers', name, 'due', run.start_at_ms, 'batched', 1, 'batch_size', size, 'bytes', bytes}
    redis.call('SET', prefix .. name, run.id)
    return nil
  end
  local count = tonumber(open[2]) + 1
  bytes = bytes + tonumber(open[3])
  redis.call('RPUSH', batch_key(run_id), text)
  redis.call('HSET', run_key(run_id), 'batched', count, 'batch_size', size, 'bytes', bytes)
  if count >= size or bytes >= MAX_BATCH_BYTES then
    -- The run takes its turn by this time, and not by the batch's timeout.
    redis.call('HSET', run_key(run_id), 'score', now_ms)
    start_scheduled(run_id, now_ms)
  end
  return run_id
end
