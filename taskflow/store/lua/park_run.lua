-- park_run: store the operations that a run waits for, and suspend it when nothing else goes on. Rules S3.2, S3.3, S3.4, S3.6, S4.3.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 run_id   4 fence   5 'suspend' or 'stay'   6 app version   7 number of operations
--        then for each operation: step_key, op (msgpack), and for an invoke: child fn, queue, child run_id, event (JSON),
--        start_timeout_ms, finish_timeout_ms, flow control; for others seven times ''; then step_key, join, ...: pending operations of which all of a join must
--        succeed before the handler can go on
-- Reply  {'fenced' | 'cancel' | 'parked' | 'dirty', hints}
--        'dirty': an operation was resolved meanwhile; the run keeps its claim and shall fetch it.
--@include keys hint listing timer lanes throttle ready unready claim wake wait resolve signal offer
local function load_admission()
--@include singleton cancel_index final_event finalize cancel skip singleton_entry scheduled rate_limit idempotency debounce batch admission
return admit
end
--@include create_run
local child_id, run_id, fence, mode = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = run_key(run_id)
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
for i = 8, 7 + tonumber(ARGV[7]) * 9, 9 do
  local step_key = ARGV[i]
  local op = cmsgpack.unpack(ARGV[i + 1])
  local known = redis.call('HGET', steps_key(run_id), step_key)
  local is_new = not known
  if op.state == 'done' or op.state == 'failed' then  -- only its place in the order of outcomes is new
    redis.call('HSET', steps_key(run_id), step_key, ARGV[i + 1])
    if op.state == 'done' then redis.call('HDEL', key, 'attempt') end  -- a step has completed: code between steps may fail anew (S5.1)
    is_new = false
  elseif known then
    -- A repeat may come late, after a lost connection: what became of the operation meanwhile stands.
    local old = cmsgpack.unpack(known)
    if op.state == 'offer' then is_new = old.state == 'due' end
    if op.state == 'retry' then
      is_new = old.state ~= 'done' and old.state ~= 'failed' and #(op.attempts or {}) > #(old.attempts or {})
    end
  end
  if is_new then
    redis.call('HDEL', key, 'crashes', 'crash_log', 'trial')  -- progress: the next crash is the first under another step (S9.8)
    if op.kind == 'event' then
      op.seq = redis.call('INCR', prefix .. 'seq')
      add_wait(op, run_id .. SEP .. step_key)
    elseif op.kind == 'signal' and not take_signal(run_id, step_key, op, tonumber(ARGV[1])) then
      wake(run_id, tonumber(ARGV[1]))  -- resolved already: the run has to fetch it
    end
    redis.call('HSET', steps_key(run_id), step_key, (op.seq or op.signal) and cmsgpack.pack(op) or ARGV[i + 1])
    if op.state == 'offer' then offer_step(run_id, step_key, tonumber(ARGV[1])) end
    if op.due then set_timer(op.due, op_timer(run_id, step_key)) end
    if ARGV[i + 2] ~= '' then
      create_run_once({
        id = ARGV[i + 4], fn = ARGV[i + 2], queue = ARGV[i + 3], event = ARGV[i + 5], cause = 'invoke', version = ARGV[6],
        start_at = 0, start_timeout_ms = tonumber(ARGV[i + 6]), finish_timeout_ms = tonumber(ARGV[i + 7]), parent = run_id .. SEP .. step_key,
        flow = ARGV[i + 8],
      }, '', ARGV[1])
    end
  end
end
local run = redis.call('HMGET', key, 'cancel', 'dirty', 'lane')
if run[1] then return {'cancel', hints} end
if mode == 'stay' then return {'parked', hints} end
if run[2] then return {'dirty', hints} end
redis.call('HSET', key, 'status', 'waiting')
redis.call('HDEL', claims_key(child_id), run_id)
release_leases(run[3], run_id, tonumber(ARGV[1]))
for i = 8 + tonumber(ARGV[7]) * 9, #ARGV, 2 do
  redis.call('HSET', joins_key(run_id), ARGV[i], ARGV[i + 1])
  redis.call('HINCRBY', joins_key(run_id), SEP .. ARGV[i + 1], 1)
end
return {'parked', hints}
