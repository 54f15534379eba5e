-- finish_run: the owner of a run brings it to its end. Rules S5.5, S6.2, S9.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 run_id   4 fence   5 status   6 output or error (JSON)   7 '1' when operations are pending
--        8 uid of the event that tells of it, or ''   9 that event (JSON)   10 when the run is to be removed (ms)
-- Reply  {'fenced' | 'cancel' (cancelled meanwhile: finish it so) | 'ok', hints}
local key = KEYS[1] .. 'run:' .. ARGV[3]
local run = redis.call('HMGET', key, 'by', 'fence', 'status', 'cancel', 'parent', 'start_ms', 'finish_ms')
if run[2] == ARGV[4] and run[3] == ARGV[5] then return {'ok', {}} end  -- a repeat whose first reply was lost
if run[1] ~= ARGV[2] or run[2] ~= ARGV[4] or run[3] ~= 'running' then return {'fenced', {}} end
if run[4] and ARGV[5] ~= 'cancelled' then return {'cancel', {}} end
if ARGV[5] == 'completed' and ARGV[7] == '' and not (run[5] or run[6] or run[7]) then
  -- What `finalize` does, for the common case of a run that nothing else hangs on: half of the time.
  redis.call('HSET', key, 'status', 'completed', 'ended', ARGV[1], 'output', ARGV[6])
  redis.call('HDEL', KEYS[1] .. 'claims:' .. ARGV[2], ARGV[3])
  redis.call('ZADD', KEYS[1] .. 'expiry', ARGV[10], ARGV[3])
  redis.call('PUBLISH', KEYS[1] .. 'done:' .. ARGV[3], 'completed')
  return {'ok', {}}
end
--@include keys hint ready unready timer wake wait resolve finalize
local now_ms = tonumber(ARGV[1])
finalize(ARGV[3], ARGV[5], ARGV[6], ARGV[7] == '1', now_ms)
if ARGV[8] ~= '' then add_to_outbox(ARGV[8], ARGV[9], now_ms) end
return {'ok', hints}
