-- refuse_events: note that events of a run do not fit its function; end the run as skipped if it takes none. Rule S11.2.
-- KEYS   1 prefix
--@argv now_ms:int child_id run_id fence ends:flag is_dead_letter:flag events[uid reason]
--       ends: the run takes none of its events. is_dead_letter: keep each among the dead letters, with the reason
-- Reply  {'fenced' (the claim is lost) | 'cancel' (nothing is stored: the run keeps its claim, and shall end) | 'ok', hints}
-- Repeat gives 'ok' and stores nothing: the run has ended so, or its events say why they were refused
local run = redis.call('HMGET', run_key(run_id), 'fence', 'status', 'cancel', 'function', 'event')
-- A repeat whose first reply was lost.
if run[1] == fence and run[2] == SKIPPED then return {'ok', {}} end
if not owns(run_id, child_id, fence) then return {'fenced', {}} end
if run[3] then return {'cancel', {}} end
local reasons = {}
for uid, reason in events do
  reasons[#reasons + 1] = reason
  local key, field, told = event_key(uid), 'fn:' .. run[4], 'skipped: ' .. reason
  local known = redis.call('HGET', key, field)
  if known ~= told then
    if redis.call('EXISTS', key) == 1 then redis.call('HSET', key, field, told) end
    if is_dead_letter then
      redis.call('XADD', prefix .. 'dead_letters', 'MAXLEN', '~', 10000, '*', 'body', event_text(uid) or run[5] or '',
        'reason', reason, 'at', now_ms)
    end
  end
end
if ends then skip_scheduled(run_id, reasons[1], now_ms) end
return {'ok', hints}
