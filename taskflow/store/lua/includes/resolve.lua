-- resolve: write the outcome of a pending operation, and wake its run.
-- outcome is {data = JSON} or {error = {name, message, stack}}. An operation that is resolved or gone is left alone, so that a
-- repeat changes nothing.
-- kind, child: of the operation that is meant, when the key may be that of another operation by now (S4.5).
local PENDING = {wait = true, retry = true, offer = true, taken = true}
local function is_pending(op) return PENDING[op.state] end
-- Remove an operation from all indexes in which it waits.
local function unlist(run_id, step_key, op, now_ms)
  local job = run_id .. SEP .. step_key
  -- A step that another process has taken goes on executing, and holds its places until it ends (S7.1) or is handed back.
  if op.state == 'offer' then
    local run = redis.call('HMGET', run_key(run_id), 'function', 'queue', 'lane')
    remove_ready(job, run[1], run[2] or DEFAULT_QUEUE, run[3], now_ms)
  end
  if op.due then clear_timer(op_timer(run_id, step_key)) end
  if op.kind == 'event' then remove_wait(op, job) end
  if op.kind == 'signal' then remove_signal(op, job) end
end
-- Whether other operations of its join are pending. A run that waits for all of a thousand operations is woken once, by the last.
local function is_join_open(run_id, step_key)
  local join = redis.call('HGET', joins_key(run_id), step_key)
  return join and redis.call('HINCRBY', joins_key(run_id), SEP .. join, -1) > 0
end
local function resolve(run_id, step_key, outcome, now_ms, kind, child)
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  if not packed then return false end
  local op = cmsgpack.unpack(packed)
  if not is_pending(op) or kind and op.kind ~= kind or child and op.child ~= child then return false end
  unlist(run_id, step_key, op, now_ms)
  op.due, op.ended = nil, now_ms
  if outcome.error then
    op.state, op.error = 'failed', outcome.error
  else
    op.state, op.data = 'done', outcome.data
    -- A step has completed: the code between the steps has all its attempts again (S5.1).
    redis.call('HDEL', run_key(run_id), 'attempt', 'earlier_errors')
  end
  redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
  if outcome.error or not is_join_open(run_id, step_key) then wake(run_id, step_key, now_ms) end
  return true
end
