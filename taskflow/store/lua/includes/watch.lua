-- watch: a run has the field `watched` while somebody looks at it as it goes on. Its channel is then told of each change, and what
-- has changed is read from the store (S10.7). Scripts read the field along with others that they need, and send nothing without it.
local function tell_watchers(run_id)
  -- Nobody listens any more.
  if redis.call('PUBLISH', watch_channel(run_id), '') == 0 then redis.call('HDEL', run_key(run_id), 'watched') end
end
