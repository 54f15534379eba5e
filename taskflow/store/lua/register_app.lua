-- register_app: note that a child executes a code base of an app: the app's functions, and the settings that the store and beat
-- need. Rules S2.1, S2.7.
-- KEYS   1 prefix
--@argv now_ms:int child_id is_watched:flag app_id code version retention_ms failed_retention_ms max_crashes
--@argv functions[slug manifest flow]
--       is_watched: the child has a supervisor, which gives heartbeats. code: a digest of all that follows it. manifest: JSON.
--       flow: what claims must know of the function's flow control, or ''
-- Reply  1 when other code bases of the app count now than before, else 0
-- Repeat gives 0: the code base is known and counts
-- What a child sent may arrive after its end. A child that was taken for dead and lives registers again after its supervisor's
-- next heartbeat.
if redis.call('ZSCORE', prefix .. 'graves', child_id) then return 0 end
local worker_id = worker_of(child_id)
redis.call('SADD', prefix .. 'apps', app_id)
-- The worker counts as alive from here on, so that it is found dead if its host dies before the first heartbeat, and what the
-- child has claimed by then is found too.
redis.call('SADD', prefix .. 'worker:' .. worker_id, child_id)
if is_watched then see_worker(worker_id, now_ms) end
if redis.call('EXISTS', code_key(app_id, code)) == 0 and count_of(functions) ~= 0 then
  local fields = {'version', version, 'registered', now_ms, 'retention_ms', retention_ms,
    'failed_retention_ms', failed_retention_ms, 'max_crashes', max_crashes}
  local function add(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
  for slug, manifest, flow in functions do
    redis.call('SADD', prefix .. 'known_functions', app_id .. '/' .. slug)
    add('fn:' .. slug, manifest)
    if flow ~= '' then add('flow:' .. slug, flow) end
  end
  on_pages('HSET', code_key(app_id, code), fields)
  -- Clocks differ by a little: the code base that is registered later counts as the newer one in any case.
  local newest = redis.call('ZRANGE', codes_key(app_id), -1, -1, 'WITHSCORES')
  redis.call('ZADD', codes_key(app_id), math.max(now_ms, (tonumber(newest[2]) or 0) + 1), code)
end
redis.call('HSET', prefix .. 'running', child_id, app_id .. SEP .. code)
-- The worker has a live child again: entries that were kept for its ended children are not needed any more.
local siblings = running_of(worker_id)
for i = 1, #siblings, 2 do
  local _, _, state = split_running(siblings[i + 1])
  if state == ENDED then redis.call('HDEL', prefix .. 'running', siblings[i]) end
end
return count_codes(app_id)
