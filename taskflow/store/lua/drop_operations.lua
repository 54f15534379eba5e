-- drop_operations: give up pending operations of a run, the losers of a race. Rule S3.7.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 run_id   4 fence   5... step keys
-- Reply  {how many were dropped; 0 also when the claim is lost, hints}
--@include keys hint listing timer lanes ready unready claim wake wait resolve
local now_ms, run_id = tonumber(ARGV[1]), ARGV[3]
if not owns(run_id, ARGV[2], ARGV[4]) then return {0, {}} end
local dropped = 0
for i = 5, #ARGV do
  local packed = redis.call('HGET', steps_key(run_id), ARGV[i])
  local op = packed and cmsgpack.unpack(packed)
  if op and is_pending(op) then
    unlist(run_id, ARGV[i], op, now_ms)
    op.state, op.due = 'dropped', nil
    redis.call('HSET', steps_key(run_id), ARGV[i], cmsgpack.pack(op))
    dropped = dropped + 1
  end
end
return {dropped, hints}
