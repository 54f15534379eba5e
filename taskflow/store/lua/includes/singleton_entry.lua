-- singleton_entry: a run is about to be ready, and takes the key of its singleton (S7.7).
--@at limited: flow.single
--@at refuse: flow.single and not is_scheduled and singleton_refusal(run.fn, flow.single, run.id)
--@at make: if flow.single then make_single(run, flow.single, is_scheduled, now_ms) end
-- The live run that holds the key, if it is another one, and the run that waits for its end.
local function singleton_holder(id, run_id)
  local held = redis.call('HMGET', singleton_key(id), 'run', 'next')
  if not held[1] or held[1] == run_id then return nil end
  local status = redis.call('HGET', run_key(held[1]), 'status')
  if not status or FINAL[status] then return nil end
  return held[1], held[2]
end
-- Why the run is skipped, or nil.
local function singleton_refusal(fn, single, run_id)
  local holder = single[2] == 'skip' and singleton_holder(single[1], run_id)
  return holder and 'singleton: run ' .. holder .. ' is live' .. key_text(fn, single[1]) or nil
end
-- Take the key. The live run is cancelled, and so is a run that waits for its end. Returns the live run when the new one has to
-- wait for its end.
local function enter_singleton(single, run_id, now_ms)
  local id = single[1]
  local holder, waiting = singleton_holder(id, run_id)
  if holder and waiting == run_id then return holder end
  if holder then
    local message = 'run ' .. run_id .. ' of the same singleton has come'
    local reason = cjson.encode({name = 'Cancelled', message = message, stack = ''})
    if waiting then cancel(waiting, reason, now_ms) end
    if cancel(holder, reason, now_ms) == 'requested' then
      redis.call('HSET', singleton_key(id), 'next', run_id)
      return holder
    end
  end
  redis.call('HSET', singleton_key(id), 'run', run_id)
end
-- A run for later takes the key when it is due (`start_scheduled`).
local function make_single(run, single, is_scheduled, now_ms)
  add_field(run, 'single', single[1])
  add_field(run, 'single_mode', single[2])
  run.behind = not is_scheduled and enter_singleton(single, run.id, now_ms)
  if run.behind then add_field(run, 'behind', run.behind) end
end
