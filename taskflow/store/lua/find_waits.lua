-- find_waits: resolve the waits that an event meets by equality alone; return those whose expression is still to be evaluated. Rule S3.3.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 seq of the event   3 event name   4 event (JSON)   5 event uid   6... tokens (path=value, or '')
-- Reply  {hints, {run_id, step_key, its condition (CEL), event of the run (JSON), ...}}
--@include keys hint ready unready timer wake wait resolve
local now_ms, seq = tonumber(ARGV[1]), tonumber(ARGV[2])
local open = {}
for i = 6, #ARGV do
  for _, member in ipairs(redis.call('SMEMBERS', prefix .. 'waits:' .. ARGV[3] .. ':' .. ARGV[i])) do
    local run_id, step_key = string.match(member, '^(.-)' .. SEP .. '(.*)$')
    local packed = redis.call('HGET', steps_key(run_id), step_key)
    local op = packed and cmsgpack.unpack(packed)
    -- A wait that was stored after the event was first seen is not met by it, even when the event is routed again.
    if op and op.state == 'wait' and op.seq < seq then
      if op.condition then
        open[#open + 1] = run_id
        open[#open + 1] = step_key
        open[#open + 1] = op.condition
        open[#open + 1] = redis.call('HGET', run_key(run_id), 'event')
      elseif resolve(run_id, step_key, {data = ARGV[4]}, now_ms) then
        redis.call('HSET', event_key(ARGV[5]), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
      end
    end
  end
end
return {hints, open}
