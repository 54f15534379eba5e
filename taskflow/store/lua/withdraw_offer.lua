-- withdraw_offer: a run takes back a step that it offered: it found a slot itself. Rule S4.4.
-- KEYS   1 prefix
-- ARGV   1 child_id   2 run_id   3 fence   4 step_key
-- Reply  1, or 0 when somebody has taken the step, or the claim is lost
--@include keys hint ready unready timer claim wake wait resolve
if not owns(ARGV[2], ARGV[1], ARGV[3]) then return 0 end
local packed = redis.call('HGET', steps_key(ARGV[2]), ARGV[4])
local op = packed and cmsgpack.unpack(packed)
if not op or op.state ~= 'offer' then return 0 end
unlist(ARGV[2], ARGV[4], op)
redis.call('HDEL', steps_key(ARGV[2]), ARGV[4])
return 1
