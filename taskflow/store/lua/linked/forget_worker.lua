local prefix = KEYS[1]
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
local function on_pages(command, key, items, first, last)
  first, last = first or 1, last or #items
  if last - first < 1000 and first <= last then return redis.call(command, key, unpack(items, first, last)) end
  local sum = 0
  for i = first, last, 1000 do
    sum = sum + redis.call(command, key, unpack(items, i, math.min(i + 1000 - 1, last)))
  end
  return sum
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
local function end_worker(worker_id)
  local apps, found = {}, running_of(worker_id)
  for i = 1, #found, 2 do
    redis.call('HDEL', prefix .. 'running', found[i])
    apps[(string.match((found[i + 1]), '^([^\31]*)\31([^\31]*)\31?(.*)$'))] = true
  end
  for app in pairs(apps) do count_codes(app) end
end
local worker_id, silent_since_ms = ARGV[1], ARGV[2]
local last_ms = redis.call('ZSCORE', prefix .. 'workers', worker_id)
if silent_since_ms ~= '' and last_ms and tonumber(last_ms) > tonumber(silent_since_ms) then return 0 end
redis.call('ZREM', prefix .. 'workers', worker_id)
redis.call('HDEL', prefix .. 'registered', worker_id)
redis.call('HDEL', prefix .. 'serving', worker_id)
redis.call('DEL', prefix .. 'worker:' .. worker_id)
end_worker(worker_id)
return 1
