-- unready: take something off its function's ready set. Needs keys.
local function remove_ready(fn, queue, member)
  if redis.call('ZREM', ready_key(fn), member) == 1 and redis.call('EXISTS', ready_key(fn)) == 0 then
    redis.call('ZREM', queue_key(app_of(fn), queue), fn)
  end
end
