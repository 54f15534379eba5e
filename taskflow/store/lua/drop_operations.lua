-- drop_operations: give up pending operations of a run, the losers of a race. Rule S3.7.
-- KEYS   1 prefix
-- ARGV   1 child_id   2 run_id   3 fence   4... step keys
-- Reply  how many were dropped; 0 also when the claim is lost
--@include keys hint ready unready timer claim wake wait resolve
local run_id = ARGV[2]
if not owns(run_id, ARGV[1], ARGV[3]) then return 0 end
local dropped = 0
for i = 4, #ARGV do
  local packed = redis.call('HGET', steps_key(run_id), ARGV[i])
  local op = packed and cmsgpack.unpack(packed)
  if op and is_pending(op) then
    unlist(run_id, ARGV[i], op)
    op.state, op.due = 'dropped', nil
    redis.call('HSET', steps_key(run_id), ARGV[i], cmsgpack.pack(op))
    dropped = dropped + 1
  end
end
return dropped
