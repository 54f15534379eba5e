-- rerun_run: make a run that ended anew: of the same function, with its events or an edited one, and with the memos of the steps that
-- are not to be executed again. Rule S10.3.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 run_id   3 id of the new run   4 cause   5 replay id, or ''   6 queue   7 event (JSON), or '' for that of the run
--        8 start_at   9 start_timeout_ms   10 finish_timeout_ms   11 flow control (see includes/create_run)   12 the place, in the order of outcomes, of the
--        first that will be new, or ''   13 key of the step whose outcome was edited, or ''   14 that operation (msgpack)
--        15... keys of the steps whose memos the new run takes over
-- Reply  {'unknown' | 'live' | 'known' (the new run exists) | 'made', hints}
--@include keys hint listing timer lanes throttle ready claim event
local function load_admission()
--@include unready wake wait resolve singleton cancel_index final_event finalize cancel skip singleton_entry scheduled rate_limit idempotency debounce batch admission
return admit
end
--@include create_run
local run_id, new_id = ARGV[2], ARGV[3]
local LIVE = {scheduled = true, queued = true, running = true, waiting = true}
local old = redis.call('HMGET', run_key(run_id), 'status', 'function', 'event', 'batched')
if not old[1] then return {'unknown', hints} end
if LIVE[old[1]] then return {'live', hints} end
if redis.call('EXISTS', run_key(new_id)) == 1 then return {'known', hints} end

create_run({
  id = new_id, fn = old[2], queue = ARGV[6], event = ARGV[7] ~= '' and ARGV[7] or old[3], cause = ARGV[4],
  version = redis.call('HGET', app_key(app_of(old[2])), 'version') or '', start_at = tonumber(ARGV[8]), start_timeout_ms = tonumber(ARGV[9]),
  finish_timeout_ms = tonumber(ARGV[10]), parent = '', flow = ARGV[11], rerun_of = run_id,
}, '', ARGV[1])
redis.call('HSET', run_key(run_id), 'rerun_by', new_id)
redis.call('HSET', run_key(new_id), 'rerun_of', run_id)
if ARGV[5] ~= '' then redis.call('HSET', run_key(new_id), 'replay', ARGV[5]) end
if redis.call('HGET', run_key(new_id), 'status') == 'skipped' then return {'made', hints} end

if old[4] then
  redis.call('HSET', run_key(new_id), 'batched', old[4])
  redis.call('COPY', prefix .. 'batch:' .. run_id, prefix .. 'batch:' .. new_id)
end
if ARGV[12] ~= '' then redis.call('HSET', run_key(new_id), 'kept', ARGV[12]) end
for i = 15, #ARGV do
  local memo = redis.call('HGET', steps_key(run_id), ARGV[i])
  if memo then redis.call('HSET', steps_key(new_id), ARGV[i], memo) end
end
if ARGV[13] ~= '' then redis.call('HSET', steps_key(new_id), ARGV[13], ARGV[14]) end
return {'made', hints}
