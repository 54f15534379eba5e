-- ready: put a run, or an offered step of one, where it waits for a slot of its queue. The oldest goes first (S7.2).
-- silent: the caller can't send a work message.
-- By ready set, whether it has members, as far as this script has found out.
local has_ready = {}
local function make_ready(member, fn, queue, lane, score, now_ms, silent)
  if lane and lane ~= '' then return make_lane_ready(member, fn, queue, lane, score, now_ms, silent) end
  local key = ready_key(fn, queue)
  redis.call('ZADD', key, score, member)
  has_ready[key] = true
  list_function(queue, fn, fn, score, now_ms, silent)
end
