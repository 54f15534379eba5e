-- offer: steps that a run offers to other processes, since its own process has no slot for them (S4.4).
-- A job is run_id SEP step_key. It waits in its function's ready set like a run, and then stands in the claims of the child that
-- has taken it. The operation's state is `offer`, then `taken`, with the child in `by` and a fence of its own: how many steps of
-- the run were taken so far. A step that is taken back and offered again has another fence, and the child that took it first may
-- still execute it.
local function job_of(run_id, step_key) return run_id .. SEP .. step_key end
local function split_job(job) return string.match(job, '^(.-)' .. SEP .. '(.*)$') end
local function offer_step(run_id, step_key, now_ms, silent)
  local run = redis.call('HMGET', run_key(run_id), 'function', 'queue', 'score', 'lane', 'created')
  make_ready(job_of(run_id, step_key), run[1], run[2] or DEFAULT_QUEUE, run[4], tonumber(run[3] or run[5]), now_ms, silent)
end
local function take_step(run_id, step_key, child_id)
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  local op = packed and cmsgpack.unpack(packed)
  if not op or op.state ~= 'offer' then return nil end
  op.state, op.by, op.fence = 'taken', child_id, redis.call('HINCRBY', run_key(run_id), 'takings', 1)
  packed = cmsgpack.pack(op)
  redis.call('HSET', steps_key(run_id), step_key, packed)
  return op.fence, packed
end
