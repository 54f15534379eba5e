-- ready: put a run, or an offered step of one, where it waits for a slot of its queue: oldest first (S7.2).
-- silent: the caller can't send a work message.
local function make_ready(member, fn, queue, lane, score, now_ms, silent)
  if lane and lane ~= '' then return make_lane_ready(member, fn, queue, lane, score, now_ms, silent) end
  redis.call('ZADD', ready_key(fn, queue), score, member)
  list_function(queue, fn, fn, score, now_ms, silent)
end
