-- resolve_wait: resolve a wait whose condition an event has met, or cancel a run whose cancel condition it has met. Rules S3.3,
-- S6.1.
-- KEYS   1 prefix
--@argv now_ms:int run_id step_key event uid
--       event: JSON. uid: of the event. To cancel a run, run_id is '' and step_key is run_id SEP place, as find_waits gives them
-- Reply  hints
-- Repeat finds the wait resolved, or the run cancelled, and changes nothing
if run_id == '' then
  --@late cancel_by_event
  cancel_by_event(string.match(step_key, '^(.-)' .. SEP), uid, now_ms)
  return hints
end
if resolve(run_id, step_key, {data = event}, now_ms, 'event') then
  redis.call('HSET', event_key(uid), 'wait:' .. run_id .. ':' .. step_key, 'resumed')
end
return hints
