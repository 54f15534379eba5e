-- claim_runs: a child takes the best ready runs of a queue. Rules S7.2, S9.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 app_id   4 queue   5 limit   6 '1' when a work message brought the child here
--        7... functions that this child does not know (an older or newer code base): left to others
-- Reply  {1 when ready runs are left, hints, claimed: {run_id, fence, fn, event, attempt, started, created, cause, crashes,
--        cancel reason or '', steps, key of the offered step or ''}, ...}
--@include keys hint ready timer claim offer
local now, child_id, app, queue, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local index = queue_key(app, queue)
local unknown = {}
for i = 7, #ARGV do unknown[ARGV[i]] = true end

-- The function whose best run is the oldest, and the score at which the next function's turn comes.
local function best_function()
  local heads = redis.call('ZRANGE', index, 0, #ARGV - 5, 'WITHSCORES')
  local fn
  for i = 1, #heads, 2 do
    if not unknown[heads[i]] then
      if fn then return fn, tonumber(heads[i + 1]) end
      fn = heads[i]
    end
  end
  return fn, math.huge
end

local claimed, claims = {}, {}
-- member: a run, or a step that a run offers (S4.4).
local function take(member)
  local run_id, step_key = split_job(member)
  run_id = run_id or member
  local key = run_key(run_id)
  local run = redis.call('HMGET', key, 'function', 'event', 'attempt', 'started', 'created', 'cause', 'crashes', 'cancel', 'fence',
    'dirty', 'start_ms', 'finish_ms')
  local fence, started, steps = tonumber(run[9] or 0) + 1, run[4], {}
  if step_key then
    fence = take_step(run_id, step_key, child_id)
    if not fence then return end
    steps = redis.call('HGETALL', steps_key(run_id))
  elseif started then
    redis.call('HSET', key, 'status', 'running', 'by', child_id, 'fence', fence)
    steps = redis.call('HGETALL', steps_key(run_id))
    redis.call('DEL', joins_key(run_id))
    if run[10] then redis.call('HDEL', key, 'dirty') end
  else
    redis.call('HSET', key, 'status', 'running', 'by', child_id, 'fence', fence, 'started', now)
    if run[11] or run[12] then start_clocks(run_id, run[11], run[12], tonumber(now)) end
  end
  claims[#claims + 1] = member
  claims[#claims + 1] = fence
  claimed[#claimed + 1] = {run_id, fence, run[1], run[2], tonumber(run[3] or 0), tonumber(started or now), tonumber(run[5]), run[6],
    tonumber(run[7] or 0), run[8] or '', steps, step_key or ''}
end

while #claimed < limit do
  local fn, turn_ends = best_function()
  if not fn then break end
  local best = redis.call('ZRANGE', ready_key(fn), 0, limit - #claimed - 1, 'WITHSCORES')
  local taken = 0
  for i = 1, #best, 2 do
    if taken > 0 and tonumber(best[i + 1]) > turn_ends then break end
    take(best[i])
    taken = taken + 1
  end
  if taken > 0 then redis.call('ZREMRANGEBYRANK', ready_key(fn), 0, taken - 1) end
  local head = redis.call('ZRANGE', ready_key(fn), 0, 0, 'WITHSCORES')
  if head[1] then redis.call('ZADD', index, head[2], fn) else redis.call('ZREM', index, fn) end
end
if claims[1] then redis.call('HSET', claims_key(child_id), unpack(claims)) end

local has_more = best_function() and 1 or 0
if ARGV[6] == '1' then
  -- This message is spent. With work left, one more wakes another child; without, the next ready run sends one.
  if has_more == 1 and claimed[1] then hint(app, queue, tonumber(now), true)
  else redis.call('HDEL', prefix .. 'hints', app .. SEP .. queue) end
end
return {has_more, hints, claimed}
