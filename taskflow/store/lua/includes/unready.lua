-- unready: remove a run, or an offered step, from the set in which it waits for a slot.
local function remove_ready(member, fn, queue, lane, now_ms)
  if lane and lane ~= '' then return remove_from_lane(member, fn, queue, lane, now_ms) end
  if redis.call('ZREM', ready_key(fn, queue), member) == 1 and redis.call('EXISTS', ready_key(fn, queue)) == 0 then
    unlist_function(queue, fn, fn)
  end
end
