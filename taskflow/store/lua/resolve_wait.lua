-- resolve_wait: resolve a wait whose condition an event met, or cancel a run that the event cancels. Rules S3.3, S6.1.
-- KEYS   1 prefix
--@argv now_ms:int run_id step_key event uid
--       to cancel: run_id is '', and step_key is run_id SEP place. event: JSON
-- Reply  hints
if run_id == '' then
  --@late cancel_by_event
  cancel_by_event(string.match(step_key, '^(.-)' .. SEP), uid, now_ms)
  return hints
end
if resolve(run_id, step_key, {data = event}, now_ms, 'event') then
  redis.call('HSET', event_key(uid), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
end
return hints
