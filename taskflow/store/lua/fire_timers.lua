-- fire_timers: do what fell due. Rules S3.2, S6.3, S8.2.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 limit
-- Reply  {how many fired, hints, due time of the next timer or '', runs to cancel for a timeout: run_id, kind, ...}
--@include keys hint ready unready timer wake wait resolve
local now_ms = tonumber(ARGV[1])
local timers = prefix .. 'timers'
local due = redis.call('ZRANGEBYSCORE', timers, '-inf', now_ms, 'LIMIT', 0, tonumber(ARGV[2]))
local timeouts = {}

local function fire_operation(run_id, step_key)
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  if not packed then return end
  local op = cmsgpack.unpack(packed)
  if op.state == 'retry' then
    op.state, op.due = 'due', nil
    redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
    wake(run_id, now_ms)
  elseif op.kind == 'invoke' then
    resolve(run_id, step_key, {error = {name = 'InvokeTimeout', message = 'the invoked run ' .. op.child .. ' did not finish in time'}}, now_ms)
  else
    resolve(run_id, step_key, {data = 'null'}, now_ms)
  end
end

local function start(run_id)
  local run = redis.call('HMGET', run_key(run_id), 'status', 'function', 'queue', 'score')
  if run[1] ~= 'scheduled' and run[1] ~= 'waiting' then return end
  redis.call('HSET', run_key(run_id), 'status', 'queued')
  redis.call('HDEL', run_key(run_id), 'due')
  make_ready(run_id, run[2], run[3], tonumber(run[4]), now_ms)
end

for _, member in ipairs(due) do
  local kind, rest = string.match(member, '^(.-)' .. SEP .. '(.*)$')
  redis.call('ZREM', timers, member)
  if kind == 'op' then
    fire_operation(string.match(rest, '^(.-)' .. SEP .. '(.*)$'))
  elseif kind == 'start' then
    start(rest)
  else
    -- Cancelling needs an event's id and text, which the caller makes; the timer stays until cancel_run clears it.
    redis.call('ZADD', timers, now_ms + 1000, member)
    timeouts[#timeouts + 1] = rest
    timeouts[#timeouts + 1] = kind
  end
end
local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
return {#due, hints, first[2] or '', timeouts}
