-- rerun_run: make a run that ended again as a new run: of the same function, with the same events or an edited one, and with the
-- memos of the steps that are not to be executed again. Rule S10.3.
-- KEYS   1 prefix
--@argv now_ms run_id new_id cause replay_id queue event start_at_ms:int start_timeout_ms:int finish_timeout_ms:int flow
--@argv next_order edited_key edited kept_keys[]
--       replay_id: of the bulk replay, or ''. event: JSON, or '' for that of the run. flow: see includes/create_run. next_order:
--       the first place in the order of outcomes that the new run fills itself, or ''. edited_key: the step whose outcome was
--       edited, or ''. edited: that step's operation (msgpack). kept_keys: the steps whose memos the new run takes over
-- Reply  {'unknown' (no such run, or its event is gone) | 'live' (it has not ended) | 'known' (the new run exists) | 'made', hints}
-- Repeat gives 'known'
local old = redis.call('HMGET', run_key(run_id), 'status', 'function', 'event', 'batched', 'uid')
if not old[1] then return {'unknown', hints} end
if not FINAL[old[1]] then return {'live', hints} end
if redis.call('EXISTS', run_key(new_id)) == 1 then return {'known', hints} end

if event == '' then event = event_of(run_id, old[3], old[5]) end
if not event then return {'unknown', hints} end
create_run({
  id = new_id, fn = old[2], queue = queue, event = event, cause = cause,
  version = redis.call('HGET', app_key(app_of(old[2])), 'version') or '', start_at_ms = start_at_ms,
  start_timeout_ms = start_timeout_ms, finish_timeout_ms = finish_timeout_ms, parent = '', flow = flow, rerun_of = run_id,
}, '', now_ms)
redis.call('HSET', run_key(run_id), 'rerun_by', new_id)
redis.call('HSET', run_key(new_id), 'rerun_of', run_id)
if replay_id ~= '' then redis.call('HSET', run_key(new_id), 'replay', replay_id) end
if redis.call('HGET', run_key(new_id), 'status') == SKIPPED then return {'made', hints} end

if old[4] then
  redis.call('HSET', run_key(new_id), 'batched', old[4])
  redis.call('COPY', batch_key(run_id), batch_key(new_id))
end
if next_order ~= '' then redis.call('HSET', run_key(new_id), 'kept', next_order) end
for step_key in kept_keys do
  local memo = redis.call('HGET', steps_key(run_id), step_key)
  if memo then redis.call('HSET', steps_key(new_id), step_key, memo) end
end
if edited_key ~= '' then redis.call('HSET', steps_key(new_id), edited_key, edited) end
return {'made', hints}
