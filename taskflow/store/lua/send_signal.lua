-- send_signal: hand data to the run that waits for a signal. Rule S3.4.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 app SEP signal   3 what the wait returns (JSON)   4 uid of this call
-- Reply  {the run that is resumed, or '', hints}
--@include keys hint listing timer lanes ready unready wake wait resolve
local KEPT_MS = 3600000
local sent = prefix .. 'signal:' .. ARGV[4]
-- A repeat whose first reply was lost: the next waiter of that name must not get it too.
local told = redis.call('GET', sent)
if told then return {told, hints} end
local holder = redis.call('HGET', prefix .. 'signals', ARGV[2])
if not holder then return {'', hints} end
local run_id, step_key = string.match(holder, '^(.-)' .. SEP .. '(.*)$')
if not resolve(run_id, step_key, {data = ARGV[3]}, tonumber(ARGV[1])) then return {'', hints} end
redis.call('SET', sent, run_id, 'PX', KEPT_MS)  -- only tidies up: a repeat comes within seconds
return {run_id, hints}
