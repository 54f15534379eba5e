-- send_signal: give data to the run that waits for a signal. Rule S3.4.
-- KEYS   1 prefix
--@argv now_ms:int signal data uid
--       signal: app SEP name. data: what the wait returns (JSON). uid: of this call of send_signal
-- Reply  {run_id of the run that goes on, or '' when none waits, hints}
-- Repeat gives the same run, which is noted under the call's uid
local KEPT_MS = 3600000
local sent = prefix .. 'signal:' .. uid
-- This may be a repeat: the next run that waits for the name must not get the data too.
local told = redis.call('GET', sent)
if told then return {told, hints} end
local holder = redis.call('HGET', prefix .. 'signals', signal)
if not holder then return {'', hints} end
local run_id, step_key = string.match(holder, '^(.-)' .. SEP .. '(.*)$')
if not resolve(run_id, step_key, {data = data}, now_ms) then return {'', hints} end
-- The lifetime only tidies up: a repeat comes within seconds, not after an hour.
redis.call('SET', sent, run_id, 'PX', KEPT_MS)
return {run_id, hints}
