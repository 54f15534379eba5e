-- commit_offered: a child ends an attempt of a step that another process offered. Rules S4.4, S9.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 run_id   4 step_key   5 fence of the job   6 operation (msgpack): done, failed or to be retried
-- Reply  {'ok' | 'fenced', hints}
--@include keys hint listing timer lanes ready unready wake wait resolve
local child_id, run_id, step_key = ARGV[2], ARGV[3], ARGV[4]
local packed = redis.call('HGET', steps_key(run_id), step_key)
local op = packed and cmsgpack.unpack(packed)
local job = run_id .. SEP .. step_key
-- The step may have been given up while it executed; it was counted until now.
if redis.call('HGET', claims_key(child_id), job) == ARGV[5] then
  redis.call('HDEL', claims_key(child_id), job)
  release_leases(redis.call('HGET', run_key(run_id), 'lane'), job, tonumber(ARGV[1]))
end
if not op or op.state ~= 'taken' or op.by ~= child_id or tostring(op.fence) ~= ARGV[5] then return {'fenced', hints} end
local ended = cmsgpack.unpack(ARGV[6])
redis.call('HDEL', run_key(run_id), 'crashes', 'crash_log', 'trial')
redis.call('HSET', steps_key(run_id), step_key, ARGV[6])
if ended.state == 'retry' then
  set_timer(ended.due, op_timer(run_id, step_key))
elseif ended.state == 'failed' or not is_join_open(run_id, step_key) then
  wake(run_id, tonumber(ARGV[1]))
end
return {'ok', hints}
