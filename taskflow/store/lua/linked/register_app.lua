local prefix = KEYS[1]
local function see_worker(worker_id, now_ms)
  if redis.call('ZADD', prefix .. 'workers', 'GT', now_ms, worker_id) == 1 then
    redis.call('HSET', prefix .. 'registered', worker_id, now_ms)
  end
end
local function on_pages(command, key, items, first, last)
  first, last = first or 1, last or #items
  if last - first < 1000 and first <= last then return redis.call(command, key, unpack(items, first, last)) end
  local sum = 0
  for i = first, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
end
local function running_of(worker_id)
  local found, start = {}, worker_id .. ':'
  local flat = redis.call('HGETALL', prefix .. 'running')
  for i = 1, #flat, 2 do
    if string.sub(flat[i], 1, #start) == start then
      found[#found + 1] = flat[i]
      found[#found + 1] = flat[i + 1]
    end
  end
  return found
end
local function counting_codes(app)
  local is_live, live, all = {}, {}, redis.call('ZRANGE', (prefix .. 'codes:' .. app), 0, -1)
  for _, entry in ipairs(redis.call('HVALS', prefix .. 'running')) do
    local its_app, code = string.match(entry, '^([^\31]*)\31([^\31]*)\31?(.*)$')
    if its_app == app then is_live[code] = true end
  end
  for _, code in ipairs(all) do
    if is_live[code] then live[#live + 1] = code end
  end
  if not live[1] then return all end
  for _, code in ipairs(all) do
    if not is_live[code] then
      redis.call('ZREM', (prefix .. 'codes:' .. app), code)
      redis.call('DEL', (prefix .. 'code:' .. app .. '\31' .. code))
    end
  end
  return live
end
local function write_functions(app, manifests, flows)
  local flow_key, rows, settings, gone = prefix .. 'flow', {}, {}, {}
  for _, slug in ipairs(redis.call('HKEYS', (prefix .. 'functions:' .. app))) do
    if not manifests[slug] then redis.call('HDEL', (prefix .. 'functions:' .. app), slug) end
    if not flows[slug] then gone[#gone + 1] = app .. '/' .. slug end
  end
  for slug, manifest in pairs(manifests) do
    rows[#rows + 1], rows[#rows + 2] = slug, manifest
    if flows[slug] then settings[#settings + 1], settings[#settings + 2] = app .. '/' .. slug, flows[slug] end
  end
  on_pages('HDEL', flow_key, gone)
  on_pages('HSET', (prefix .. 'functions:' .. app), rows)
  on_pages('HSET', flow_key, settings)
end
local function union_of(app, codes)
  local manifests, flows = {}, {}
  for _, code in ipairs(codes) do
    local flat, record = redis.call('HGETALL', (prefix .. 'code:' .. app .. '\31' .. code)), {}
    for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
    for field, value in pairs(record) do
      local slug = string.match(field, '^fn:(.*)$')
      if slug then manifests[slug], flows[slug] = value, record['flow:' .. slug] end
    end
  end
  return manifests, flows
end
local SETTINGS = {'version', 'retention_ms', 'failed_retention_ms', 'max_crashes'}
local function count_codes(app)
  local codes = counting_codes(app)
  local edition = redis.sha1hex(table.concat(codes, '\31'))
  local former = redis.call('HGET', (prefix .. 'app:' .. app), 'edition')
  if former == edition and redis.call('EXISTS', (prefix .. 'edition:' .. app .. '\31' .. edition)) == 1 then return 0 end
  write_functions(app, union_of(app, codes))
  local fields = {'edition', edition}
  if codes[1] then
    local values = redis.call('HMGET', (prefix .. 'code:' .. app .. '\31' .. (codes[#codes])), unpack(SETTINGS))
    for i, name in ipairs(SETTINGS) do fields[#fields + 1], fields[#fields + 2] = name, values[i] end
  end
  redis.call('HSET', (prefix .. 'app:' .. app), unpack(fields))
  if former then redis.call('DEL', (prefix .. 'edition:' .. app .. '\31' .. former)) end
  redis.call('SET', (prefix .. 'edition:' .. app .. '\31' .. edition), 1)
  redis.call('LREM', prefix .. 'nudge', 0, 'functions')
  redis.call('LPUSH', prefix .. 'nudge', 'functions')
  return 1
end
local now_ms, child_id, is_watched, app_id, code, version, retention_ms, failed_retention_ms, max_crashes = tonumber(ARGV[1]), ARGV[2], (ARGV[3] ~= ''), ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
if redis.call('ZSCORE', prefix .. 'graves', child_id) then return 0 end
local worker_id = string.match(child_id, '^(.*):')
redis.call('SADD', prefix .. 'apps', app_id)
redis.call('SADD', prefix .. 'worker:' .. worker_id, child_id)
if is_watched then see_worker(worker_id, now_ms) end
if redis.call('EXISTS', (prefix .. 'code:' .. app_id .. '\31' .. code)) == 0 and (#ARGV - 9) ~= 0 then
  local fields = {'version', version, 'registered', now_ms, 'retention_ms', retention_ms,
    'failed_retention_ms', failed_retention_ms, 'max_crashes', max_crashes}
  local function add(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
  for functions_at = 10, #ARGV, 3 do
local slug, manifest, flow = ARGV[functions_at], ARGV[functions_at + 1], ARGV[functions_at + 2]

    redis.call('SADD', prefix .. 'known_functions', app_id .. '/' .. slug)
    add('fn:' .. slug, manifest)
    if flow ~= '' then add('flow:' .. slug, flow) end
  end
  on_pages('HSET', (prefix .. 'code:' .. app_id .. '\31' .. code), fields)
  local newest = redis.call('ZRANGE', (prefix .. 'codes:' .. app_id), -1, -1, 'WITHSCORES')
  redis.call('ZADD', (prefix .. 'codes:' .. app_id), math.max(now_ms, (tonumber(newest[2]) or 0) + 1), code)
end
redis.call('HSET', prefix .. 'running', child_id, app_id .. '\31' .. code)
local siblings = running_of(worker_id)
for i = 1, #siblings, 2 do
  local _, _, state = string.match((siblings[i + 1]), '^([^\31]*)\31([^\31]*)\31?(.*)$')
  if state == 'ended' then redis.call('HDEL', prefix .. 'running', siblings[i]) end
end
return count_codes(app_id)
