-- cancel_run: end a run, at once when nothing of it executes, else after its running steps. Rule S6.2.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 run_id   3 reason (JSON error)
-- Reply  {'unknown' | 'final' | 'requested' | 'cancelled', hints}
--@include keys hint listing timer lanes ready unready wake wait resolve singleton cancel_index final_event finalize cancel
return {cancel(ARGV[2], ARGV[3], tonumber(ARGV[1])), hints}
