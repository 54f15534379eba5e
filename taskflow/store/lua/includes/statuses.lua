-- statuses: the statuses of a run. In Python they are RunStatus in run.py.
local SCHEDULED = 'scheduled'
local QUEUED = 'queued'
local RUNNING = 'running'
local WAITING = 'waiting'
local COMPLETED = 'completed'
local FAILED = 'failed'
local CANCELLED = 'cancelled'
local SKIPPED = 'skipped'
local FINAL = {[COMPLETED] = true, [FAILED] = true, [CANCELLED] = true, [SKIPPED] = true}
