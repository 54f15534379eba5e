-- resolve: write the outcome of a pending operation and wake its run. Needs keys, hint, ready, timer, wake, wait.
-- outcome is {data = JSON} or {error = {name, message}}; a resolved or vanished operation is left alone (safe to repeat).
local function is_pending(op) return op.state == 'wait' or op.state == 'retry' end
local function unlist(run_id, step_key, op)
  if op.due then clear_timer(op_timer(run_id, step_key)) end
  if op.kind == 'event' then remove_wait(op, run_id .. SEP .. step_key) end
end
-- A run that waits for all of a thousand operations is woken by the last one, not a thousand times.
local function is_join_open(run_id, step_key)
  local join = redis.call('HGET', joins_key(run_id), step_key)
  return join and redis.call('HINCRBY', joins_key(run_id), SEP .. join, -1) > 0
end
local function resolve(run_id, step_key, outcome, now_ms)
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  if not packed then return false end
  local op = cmsgpack.unpack(packed)
  if not is_pending(op) then return false end
  unlist(run_id, step_key, op)
  op.due, op.ended = nil, now_ms
  if outcome.error then op.state, op.error = 'failed', outcome.error else op.state, op.data = 'done', outcome.data end
  redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
  if outcome.error or not is_join_open(run_id, step_key) then wake(run_id, now_ms) end
  return true
end
