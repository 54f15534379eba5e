-- fire_timers: fire the timers that are due. Rules S3.2, S6.3, S7.3, S7.5, S7.6, S8.2.
-- KEYS   1 prefix
--@argv now_ms:int limit:int
--       limit: fire so many at most
-- Reply  {how many fired, hints, when (ms) the next timer is due, or ''}
-- Repeat fires those that are left: a timer is removed when it fires
local timers = prefix .. 'timers'
local due = redis.call('ZRANGEBYSCORE', timers, '-inf', now_ms, 'LIMIT', 0, limit)
local TIMEOUTS = {
  start_timeout = 'was not started within timeouts.start',
  finish_timeout = 'did not finish within timeouts.finish',
}

-- " of shop/child"; nothing when the run has been removed.
local function of_function(run_id)
  local fn = redis.call('HGET', run_key(run_id), 'function')
  return fn and ' of ' .. fn or ''
end

-- The timeout of an operation, in seconds. The step of an older version has no start.
local function limit_of(op)
  return op.started and tostring((op.due - op.started) / 1000) .. ' s' or 'its timeout'
end

local function fire_operation(run_id, step_key)
  local packed = redis.call('HGET', steps_key(run_id), step_key)
  if not packed then return end
  local op = cmsgpack.unpack(packed)
  if op.state == 'retry' then
    op.state, op.due = 'due', nil
    redis.call('HSET', steps_key(run_id), step_key, cmsgpack.pack(op))
    wake(run_id, step_key, now_ms)
  elseif op.kind == 'invoke' then
    local message = 'the invoked run ' .. op.child .. of_function(op.child) .. ' did not finish within ' .. limit_of(op)
    resolve(run_id, step_key, {error = {name = 'InvokeTimeout', message = message}}, now_ms)
  else
    resolve(run_id, step_key, {data = 'null'}, now_ms)
  end
end

-- The throttle of a lane has opened (S7.3).
local function open_lane(queue, fn, lane) serve_lane(queue, fn, lane, now_ms, now_ms) end

for _, member in ipairs(due) do
  local kind, rest = string.match(member, '^(.-)' .. SEP .. '(.*)$')
  redis.call('ZREM', timers, member)
  if kind == 'op' then
    fire_operation(string.match(rest, '^(.-)' .. SEP .. '(.*)$'))
  elseif kind == 'start' then
    start_scheduled(rest, now_ms)
  elseif kind == 'lane' then
    open_lane(string.match(rest, '^(.-)' .. SEP .. '(.-)' .. SEP .. '(.*)$'))
  elseif kind == 'start_timeout' and redis.call('HEXISTS', run_key(rest), 'expires') == 1 then
    cancel(rest, EXPIRED, now_ms)
  else
    cancel(rest, '{"name":"RunTimeout","message":"the run ' .. TIMEOUTS[kind] .. '","stack":""}', now_ms)
  end
end
local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
return {#due, hints, first[2] or ''}
