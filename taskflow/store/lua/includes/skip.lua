-- skip: record a run that flow control or a pause has refused, with the reason (S1.3, S7, S10.4).
-- run is as for create_run. It is recorded as ended, so that a replay can pick it up; the invoke that it was to serve fails.
local function skip_run(run, reason, now_ms)
  local fields = {'function', run.fn, 'created', now_ms, 'version', run.version, 'status', SKIPPED, 'ended', now_ms,
    'skipped', reason}
  add_origin(fields, run)
  redis.call('HSET', run_key(run.id), unpack(fields))
  redis.call('ZADD', runs_key(run.fn), now_ms, run.id)
  keep_until(run.id, now_ms + kept_for(run.fn, SKIPPED, run.keep))
  note_ended(run.id, run.fn, SKIPPED, now_ms, now_ms)
  if run.parent ~= '' then
    redis.call('HSET', run_key(run.id), 'parent', run.parent)
    local parent_id, step_key = parent_of(run.parent)
    redis.call('ZADD', children_key(parent_id), now_ms, run.id)
    local message = 'run ' .. run.id .. ' of ' .. run.fn .. ' was skipped: ' .. reason
    resolve(parent_id, step_key, {error = {name = 'RunSkipped', message = message, stack = ''}}, now_ms)
  end
end
-- The value of a limit's key for the reason: the limit's id ends with it.
local function key_text(fn, id)
  local token = string.sub(id, #fn + 2)
  return token == '' and '' or ' for key ' .. token
end
-- Skip a run that exists, and waits for its start.
local function skip_scheduled(run_id, reason, now_ms)
  local message = 'run ' .. run_id .. ' was skipped: ' .. reason
  finalize(run_id, SKIPPED, cjson.encode({name = 'RunSkipped', message = message, stack = ''}), true, now_ms)
  redis.call('HDEL', run_key(run_id), 'error')
  redis.call('HSET', run_key(run_id), 'skipped', reason)
end
