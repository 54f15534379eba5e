-- expiry: when ended runs are to be removed (S10.1). `expiry:<span>` is the list of runs to remove within the same ten seconds, and
-- the sorted set `expiry` holds these lists by the end (ms) of their span. A list takes a third of the room that a sorted set takes
-- for a run.
--@finally note_expiry when expiring
local SPAN_MS = 10000
local function expiry_key(span) return prefix .. 'expiry:' .. span end
-- The runs that this script has ended, by span, and by the time of removal. They are written at the script's end.
local expiring, expiring_at = {}, {}
local function keep_until(run_id, remove_at_ms)
  local run_ids = expiring_at[remove_at_ms]
  if not run_ids then
    local span = math.ceil(remove_at_ms / SPAN_MS)
    run_ids = expiring[span] or {}
    expiring[span], expiring_at[remove_at_ms] = run_ids, run_ids
  end
  run_ids[#run_ids + 1] = run_id
end
local function note_expiry()
  for span, run_ids in pairs(expiring) do
    -- These runs are the first of their span.
    if on_pages('RPUSH', expiry_key(span), run_ids) == #run_ids then
      redis.call('ZADD', prefix .. 'expiry', span * SPAN_MS, span)
    end
  end
end
