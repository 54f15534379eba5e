-- claim_runs: a child takes the best ready runs of a queue. Rules S7.2, S9.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 app_id   4 queue   5 limit   6 '1' when a work message brought the child here
--        7... functions that this child does not know (an older or newer code base): left to others
-- Reply  {runs left ready, hints, claimed: {run_id, fence, fn, event, attempt, started, created, cause, crashes,
--        cancel reason or '', steps}, ...}
--@include keys hint ready timer claim
local now_ms, child_id, app, queue, limit = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
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

local function take(run_id)
  local fence = take_claim(run_id, child_id, now_ms)
  local run = redis.call('HMGET', run_key(run_id), 'function', 'event', 'attempt', 'started', 'created', 'cause', 'crashes',
    'cancel')
  redis.call('HDEL', run_key(run_id), 'dirty')
  return {run_id, fence, run[1], run[2], tonumber(run[3] or 0), tonumber(run[4]), tonumber(run[5]), run[6],
    tonumber(run[7] or 0), run[8] or '', redis.call('HGETALL', steps_key(run_id))}
end

local claimed = {}
while #claimed < limit do
  local fn, turn_ends = best_function()
  if not fn then break end
  local best = redis.call('ZRANGE', ready_key(fn), 0, limit - #claimed - 1, 'WITHSCORES')
  local taken = 0
  for i = 1, #best, 2 do
    if taken > 0 and tonumber(best[i + 1]) > turn_ends then break end
    claimed[#claimed + 1] = take(best[i])
    taken = taken + 1
  end
  if taken > 0 then redis.call('ZREMRANGEBYRANK', ready_key(fn), 0, taken - 1) end
  local head = redis.call('ZRANGE', ready_key(fn), 0, 0, 'WITHSCORES')
  if head[1] then redis.call('ZADD', index, head[2], fn) else redis.call('ZREM', index, fn) end
end

local has_more = best_function() and 1 or 0
if ARGV[6] == '1' then
  -- This message is spent. With work left, one more wakes another child; without, the next ready run sends one.
  if has_more == 1 and #claimed > 0 then hint(app, queue, now_ms, true)
  else redis.call('HDEL', prefix .. 'hints', app .. SEP .. queue) end
end
return {has_more, hints, claimed}
