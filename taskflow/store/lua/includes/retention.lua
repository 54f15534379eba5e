-- retention: how long (ms) a run is kept after its end (S10.1): as its function said when it was made, else as its app says. `keep`
-- is "ms ms", for runs that did not fail and for failed ones; either may be empty.
local DAY_MS = 86400000
local function kept_for(fn, status, keep)
  local all_ms, failed_ms = string.match(keep or '', '^(%d*) (%d*)$')
  local own_ms = tonumber(status == FAILED and failed_ms or status ~= FAILED and all_ms or nil)
  if own_ms then return own_ms end
  -- For an app that no worker has registered yet, the defaults count.
  local app = redis.call('HMGET', app_key(app_of(fn)), 'retention_ms', 'failed_retention_ms')
  return status == FAILED and tonumber(app[2] or 7 * DAY_MS) or tonumber(app[1] or DAY_MS)
end
