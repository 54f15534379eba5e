-- expiry: when runs that have ended are to be removed (S10.1). `expiry:<span>` is a list of those of ten seconds, and `expiry`
-- holds these lists by the end (ms) of their time. A list takes a third of the room that a sorted set takes for a run.
local SPAN_MS = 10000
local function expiry_key(span) return prefix .. 'expiry:' .. span end
local function keep_until(run_id, remove_at_ms)
  local span = math.ceil(remove_at_ms / SPAN_MS)
  if redis.call('RPUSH', expiry_key(span), run_id) == 1 then redis.call('ZADD', prefix .. 'expiry', span * SPAN_MS, span) end
end
