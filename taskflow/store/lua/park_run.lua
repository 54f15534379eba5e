-- park_run: store the operations that a run waits for, and suspend the run when nothing else of it goes on. Rules S3.2, S3.3, S3.4,
-- S3.6, S4.3.
-- KEYS   1 prefix
--@argv now_ms child_id run_id fence suspends:flag version joins[step_key join]
--@argv operations[step_key packed children[function_id queue run_id event start_timeout_ms:int finish_timeout_ms:int flow]]
--       suspends: the run gives its slot back. version: of the child's code base. joins: pending operations with the join that they
--       belong to: all operations of a join must succeed before the handler can go on. packed: the operation (msgpack). children:
--       the run that an invoke starts; event: JSON
-- Reply  {'fenced' (the claim is lost) | 'cancel' (the run shall end) | 'parked' | 'dirty', hints}
--        'dirty': an operation was resolved meanwhile; the run keeps its claim, and shall read what is resolved
-- Repeat stores nothing anew; for a run that is suspended it gives 'fenced'
local key = run_key(run_id)
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
-- Whether the operation is to be stored. A repeat may come late, after a lost connection: what became of the operation since
-- stands.
local function is_news(op, known)
  if not known then return true end
  local old = cmsgpack.unpack(known)
  if op.state == 'offer' then return old.state == 'due' end
  -- A memo without a state is of a step that is done.
  if op.state ~= 'retry' or old.state == nil or old.state == 'done' or old.state == 'failed' then return false end
  return #(op.attempts or {}) > #(old.attempts or {})
end
local function store(op, step_key, packed)
  -- This is progress: the next crash is the first one under another step (S9.8).
  redis.call('HDEL', key, 'crashes', 'crash_log', 'trial')
  if op.kind == 'event' then
    op.seq = redis.call('INCR', prefix .. 'seq')
    add_wait(op, run_id .. SEP .. step_key)
  elseif op.kind == 'signal' and not take_signal(run_id, step_key, op, tonumber(now_ms)) then
    -- The wait has failed at once: the run has to read that.
    wake(run_id, step_key, tonumber(now_ms))
  end
  redis.call('HSET', steps_key(run_id), step_key, (op.seq or op.signal) and cmsgpack.pack(op) or packed)
  if op.state == 'offer' then offer_step(run_id, step_key, tonumber(now_ms)) end
  if op.due then set_timer(op.due, op_timer(run_id, step_key)) end
end
local parent_id = run_id
for step_key, packed, children in operations do
  local op = cmsgpack.unpack(packed)
  local known = redis.call('HGET', steps_key(parent_id), step_key)
  if op.state == nil or op.state == 'done' or op.state == 'failed' or op.state == 'dropped' then
    -- Only the operation's place in the order of outcomes is new, or user code has given up a step that executed.
    redis.call('HSET', steps_key(parent_id), step_key, packed)
    -- A step has completed: the code between the steps has all its attempts again (S5.1).
    if op.state == nil or op.state == 'done' then redis.call('HDEL', key, 'attempt', 'earlier_errors') end
  elseif is_news(op, known) then
    store(op, step_key, packed)
    for function_id, queue, run_id, event, start_timeout_ms, finish_timeout_ms, flow in children do
      create_run_once({
        id = run_id, fn = function_id, queue = queue, event = event, cause = 'invoke', version = version, start_at_ms = 0,
        start_timeout_ms = start_timeout_ms, finish_timeout_ms = finish_timeout_ms, parent = parent_id .. SEP .. step_key,
        flow = flow,
      }, '', now_ms)
    end
  end
end
local run = redis.call('HMGET', key, 'cancel', 'dirty', 'lane', 'function', 'queue', 'watched')
if run[6] then tell_watchers(run_id) end
if run[1] then return {'cancel', hints} end
if not suspends then return {'parked', hints} end
if run[2] then return {'dirty', hints} end
redis.call('HSET', key, 'status', WAITING)
move_run(run[4], run[5] or DEFAULT_QUEUE, RUNNING, WAITING)
redis.call('HDEL', claims_key(child_id), run_id)
free_place(run[3], run_id, tonumber(now_ms))
local members, sizes = {}, {}
for step_key, join in joins do
  members[#members + 1], members[#members + 2] = step_key, join
  sizes[join] = (sizes[join] or 0) + 1
end
on_pages('HSET', joins_key(run_id), members)
for join, size in pairs(sizes) do redis.call('HINCRBY', joins_key(run_id), SEP .. join, size) end
return {'parked', hints}
