-- register_app: the functions that a code base has now, and the settings that the store and beat need. Rule S2.1.
-- KEYS   1 prefix
-- ARGV   1 app_id   2 version   3 retention_ms   4 failed_retention_ms   5 max_crashes   then slug, manifest (JSON), what claims must know of its flow
--        control or '', ...
-- Reply  1 when something changed (beat is nudged, since a cron may be new)
--@include keys
local app = ARGV[1]
local functions = prefix .. 'functions:' .. app
redis.call('HSET', app_key(app), 'version', ARGV[2], 'retention_ms', ARGV[3], 'failed_retention_ms', ARGV[4], 'max_crashes', ARGV[5])
redis.call('SADD', prefix .. 'apps', app)
local now, changed = {}, 0
for i = 6, #ARGV, 3 do
  local slug, flow = ARGV[i], ARGV[i + 2]
  now[slug] = true
  if flow == '' then redis.call('HDEL', prefix .. 'flow', app .. '/' .. slug)
  else redis.call('HSET', prefix .. 'flow', app .. '/' .. slug, flow) end
  if redis.call('HGET', functions, ARGV[i]) ~= ARGV[i + 1] then
    redis.call('HSET', functions, ARGV[i], ARGV[i + 1])
    changed = 1
  end
end
for _, slug in ipairs(redis.call('HKEYS', functions)) do
  if not now[slug] then
    redis.call('HDEL', functions, slug)
    redis.call('HDEL', prefix .. 'flow', app .. '/' .. slug)
    changed = 1
  end
end
if changed == 1 and redis.call('LLEN', prefix .. 'nudge') == 0 then redis.call('LPUSH', prefix .. 'nudge', 'functions') end
return changed
