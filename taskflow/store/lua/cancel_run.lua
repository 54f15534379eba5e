-- cancel_run: end a run, at once when nothing of it executes, else after its running steps. Rule S6.2.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 run_id   3 reason (JSON error)   4 uid of the event that tells of it   5 that event (JSON)
-- Reply  {'unknown' | 'final' | 'requested' | 'cancelled', hints}
--@include keys hint ready unready timer wake wait resolve finalize cancel
return {cancel(ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[1])), hints}
