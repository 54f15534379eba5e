-- listing: the index of a queue, which holds each function that has ready runs, with the score of its best run.
-- A paused function stands in no index, so that nobody claims its runs (S10.4); `held:<fn>` is the set of queues in whose index it
-- is to stand once it is resumed. Nobody claims anything of a paused queue. `paused` is a hash from a function, or from a queue as
-- app SEP queue, to when (ms) it was paused.
local paused_names
local function is_paused(name)
  if not paused_names then
    paused_names = {}
    for _, each in ipairs(redis.call('HKEYS', prefix .. 'paused')) do paused_names[each] = true end
  end
  return paused_names[name]
end
local function queue_member(app, queue) return app .. SEP .. queue end
-- member: the function, or the function and LANES for its runs in lanes. A script that makes many runs lists the function once.
-- By queue SEP member, the score with which it is listed.
local listed = {}
local function unlist_function(queue, fn, member)
  listed[queue .. SEP .. member] = nil
  redis.call('ZREM', queue_key(app_of(fn), queue), member)
end
local function list_function(queue, fn, member, score, now_ms, silent)
  local best = listed[queue .. SEP .. member]
  if best and best <= tonumber(score) and not silent then return end
  if is_paused(fn) then return redis.call('SADD', held_key(fn), queue) end
  listed[queue .. SEP .. member] = tonumber(score)
  local app = app_of(fn)
  if redis.call('ZADD', queue_key(app, queue), 'LT', score, member) == 1 then
    redis.call('SADD', prefix .. 'queues', app .. SEP .. queue)
  end
  if silent then
    -- Beat shall send a message in its next turn, whatever was sent before (S9.3).
    redis.call('HDEL', prefix .. 'hints', app .. SEP .. queue)
  else
    hint(app, queue, now_ms)
  end
end
