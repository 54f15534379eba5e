-- send_signal: give data to the run that waits for a signal. Rule S3.4.
-- KEYS   1 prefix
--@argv now_ms:int signal data uid
--       signal: app SEP name. data: what the wait returns (JSON). uid: of this call
-- Reply  {the run that is resumed, or '', hints}
local KEPT_MS = 3600000
local sent = prefix .. 'signal:' .. uid
-- A repeat whose first reply was lost: the next waiter of that name must not get it too.
local told = redis.call('GET', sent)
if told then return {told, hints} end
local holder = redis.call('HGET', prefix .. 'signals', signal)
if not holder then return {'', hints} end
local run_id, step_key = string.match(holder, '^(.-)' .. SEP .. '(.*)$')
if not resolve(run_id, step_key, {data = data}, now_ms) then return {'', hints} end
-- The lifetime only tidies up: a repeat comes within seconds.
redis.call('SET', sent, run_id, 'PX', KEPT_MS)
return {run_id, hints}
