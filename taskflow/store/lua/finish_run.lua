-- finish_run: the owner of a run brings it to its end. Rules S5.5, S6.2, S9.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 child_id   3 run_id   4 fence   5 status   6 output or error (JSON)   7 '1' when operations are pending
--        8 uid of the event that tells of it, or ''   9 that event (JSON)
-- Reply  {'fenced' | 'cancel' (cancelled meanwhile: finish it so) | 'ok', hints}
--@include keys hint ready timer claim wake wait resolve finalize
local now_ms, child_id, run_id, fence, status = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local run = redis.call('HMGET', run_key(run_id), 'by', 'fence', 'cancel', 'status')
if run[2] == fence and run[4] == status then return {'ok', hints} end  -- a repeat whose first reply was lost
if run[1] ~= child_id or run[2] ~= fence then return {'fenced', hints} end
if run[3] and status ~= 'cancelled' then return {'cancel', hints} end
finalize(run_id, status, ARGV[6], ARGV[7] == '1', now_ms)
if ARGV[8] ~= '' then add_to_outbox(ARGV[8], ARGV[9], now_ms) end
return {'ok', hints}
