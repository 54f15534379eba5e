local prefix = KEYS[1]
local function app_key(app) return prefix .. 'app:' .. app end
local app_id, version, retention_ms, failed_retention_ms, max_crashes, functions = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], 6
local known = prefix .. 'functions:' .. app_id
redis.call('HSET', app_key(app_id), 'version', version, 'retention_ms', retention_ms, 'failed_retention_ms', failed_retention_ms,
  'max_crashes', max_crashes)
redis.call('SADD', prefix .. 'apps', app_id)
local is_there, changed = {}, 0
for functions_at = 6, #ARGV, 3 do
local slug, manifest, flow = ARGV[functions_at], ARGV[functions_at + 1], ARGV[functions_at + 2]

  is_there[slug] = true
  redis.call('SADD', prefix .. 'known_functions', app_id .. '/' .. slug)
  if flow == '' then redis.call('HDEL', prefix .. 'flow', app_id .. '/' .. slug)
  else redis.call('HSET', prefix .. 'flow', app_id .. '/' .. slug, flow) end
  if redis.call('HGET', known, slug) ~= manifest then
    redis.call('HSET', known, slug, manifest)
    changed = 1
  end
end
for _, slug in ipairs(redis.call('HKEYS', known)) do
  if not is_there[slug] then
    redis.call('HDEL', known, slug)
    redis.call('HDEL', prefix .. 'flow', app_id .. '/' .. slug)
    changed = 1
  end
end
if changed == 1 and redis.call('LLEN', prefix .. 'nudge') == 0 then redis.call('LPUSH', prefix .. 'nudge', 'functions') end
return changed
