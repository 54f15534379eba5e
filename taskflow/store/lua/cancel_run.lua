-- cancel_run: cancel a run, at once if nothing of it executes, else after its executing steps. Rule S6.2.
-- KEYS   1 prefix
--@argv now_ms:int run_id reason
--       reason: an error (JSON)
-- Reply  {'unknown' | 'final' | 'requested' | 'cancelled', hints}
return {cancel(run_id, reason, now_ms), hints}
