-- expiry: when runs that have ended are to be removed (S10.1). `expiry:<span>` is a list of those of ten seconds, and `expiry`
-- holds these lists by the end (ms) of their time. A list takes a third of the room that a sorted set takes for a run.
--@finally note_expiry when expiring
local SPAN_MS = 10000
local function expiry_key(span) return prefix .. 'expiry:' .. span end
-- By span, the runs that this script has brought to their end: they are written at its end.
local expiring = {}
local function keep_until(run_id, remove_at_ms)
  local span = math.ceil(remove_at_ms / SPAN_MS)
  local run_ids = expiring[span]
  if not run_ids then
    run_ids = {}
    expiring[span] = run_ids
  end
  run_ids[#run_ids + 1] = run_id
end
local function note_expiry()
  for span, run_ids in pairs(expiring) do
    on_pages('RPUSH', expiry_key(span), run_ids)
    redis.call('ZADD', prefix .. 'expiry', span * SPAN_MS, span)
  end
end
