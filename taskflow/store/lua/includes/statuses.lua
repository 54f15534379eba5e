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
-- Why a run is cancelled that has not begun in time (S15.2); its field `expires` is until when (ms) it had.
local EXPIRED = '{"name":"RunExpired","message":"expired: it had not begun in time","stack":""}'
