-- code_bases: which functions of an app count while its workers execute several code bases (S2.7).
-- A code base is what a worker's code says of its app: its functions, with their manifests, and its settings. `code` is a digest of
-- all that, and names the code base; its `version` is for people.
-- `codes:<app>` is a sorted set of the code bases that count, in the order in which they were registered.
-- `code:<app>` SEP code is a hash: version, registered (ms), the settings, fn:<slug> with a manifest, and flow:<slug> with what
-- claims must know.
-- `running` is a hash from a child's id to app SEP code. The entry of a worker's last child stays when that child ends, as app SEP
-- code SEP ENDED: the worker lives, and starts another child, maybe of the same code base.
-- `functions:<app>`, `flow` and `app:<app>` hold what counts: for a function of several code bases, the manifest of the newest one.
-- `edition:<app>` SEP edition exists while these code bases count. Who plans runs names the edition that the plan is made for.
local ENDED = 'ended'
local SETTINGS = {'version', 'retention_ms', 'failed_retention_ms', 'max_crashes'}
local function codes_key(app) return prefix .. 'codes:' .. app end
local function code_key(app, code) return prefix .. 'code:' .. app .. SEP .. code end
local function edition_key(app, edition) return prefix .. 'edition:' .. app .. SEP .. edition end
local function functions_key(app) return prefix .. 'functions:' .. app end
local function split_running(entry) return string.match(entry, '^([^\31]*)\31([^\31]*)\31?(.*)$') end
-- The entries of a worker's children in `running`: child id, entry, ...
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
-- The code bases that count, oldest first: those that workers execute, or if there are no workers, those that counted last. All
-- others are forgotten.
local function counting_codes(app)
  local is_live, live, all = {}, {}, redis.call('ZRANGE', codes_key(app), 0, -1)
  for _, entry in ipairs(redis.call('HVALS', prefix .. 'running')) do
    local its_app, code = split_running(entry)
    if its_app == app then is_live[code] = true end
  end
  for _, code in ipairs(all) do
    if is_live[code] then live[#live + 1] = code end
  end
  if not live[1] then return all end
  for _, code in ipairs(all) do
    if not is_live[code] then
      redis.call('ZREM', codes_key(app), code)
      redis.call('DEL', code_key(app, code))
    end
  end
  return live
end
-- The manifests and flows of all code bases, by slug; the newest code base wins.
local function union_of(app, codes)
  local manifests, flows = {}, {}
  for _, code in ipairs(codes) do
    local flat, record = redis.call('HGETALL', code_key(app, code)), {}
    for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
    for field, value in pairs(record) do
      local slug = string.match(field, '^fn:(.*)$')
      if slug then manifests[slug], flows[slug] = value, record['flow:' .. slug] end
    end
  end
  return manifests, flows
end
local function write_functions(app, manifests, flows)
  local flow_key, rows, settings, gone = prefix .. 'flow', {}, {}, {}
  for _, slug in ipairs(redis.call('HKEYS', functions_key(app))) do
    if not manifests[slug] then redis.call('HDEL', functions_key(app), slug) end
    if not flows[slug] then gone[#gone + 1] = app .. '/' .. slug end
  end
  for slug, manifest in pairs(manifests) do
    rows[#rows + 1], rows[#rows + 2] = slug, manifest
    if flows[slug] then settings[#settings + 1], settings[#settings + 2] = app .. '/' .. slug, flows[slug] end
  end
  on_pages('HDEL', flow_key, gone)
  on_pages('HSET', functions_key(app), rows)
  on_pages('HSET', flow_key, settings)
end
-- Find out which code bases of the app count, now that a child executes another one, or has ended. Returns 1 when they are others
-- than before.
local function count_codes(app)
  local codes = counting_codes(app)
  local edition = redis.sha1hex(table.concat(codes, SEP))
  local former = redis.call('HGET', app_key(app), 'edition')
  if former == edition and redis.call('EXISTS', edition_key(app, edition)) == 1 then return 0 end
  write_functions(app, union_of(app, codes))
  local fields = {'edition', edition}
  if codes[1] then
    local values = redis.call('HMGET', code_key(app, codes[#codes]), unpack(SETTINGS))
    for i, name in ipairs(SETTINGS) do fields[#fields + 1], fields[#fields + 2] = name, values[i] end
  end
  redis.call('HSET', app_key(app), unpack(fields))
  if former then redis.call('DEL', edition_key(app, former)) end
  redis.call('SET', edition_key(app, edition), 1)
  -- A nudge for a timer may wait there, which tells beat nothing of functions. One of each is enough.
  redis.call('LREM', prefix .. 'nudge', 0, 'functions')
  redis.call('LPUSH', prefix .. 'nudge', 'functions')
  return 1
end
-- Note that a child has ended.
local function end_running(child_id)
  local entry = redis.call('HGET', prefix .. 'running', child_id)
  if not entry then return end
  local app, code = split_running(entry)
  local siblings = running_of(worker_of(child_id))
  if #siblings > 2 then redis.call('HDEL', prefix .. 'running', child_id)
  else redis.call('HSET', prefix .. 'running', child_id, app .. SEP .. code .. SEP .. ENDED) end
  if #siblings > 2 then count_codes(app) end
end
-- Remove a worker that has left, or was declared dead.
local function end_worker(worker_id)
  local apps, found = {}, running_of(worker_id)
  for i = 1, #found, 2 do
    redis.call('HDEL', prefix .. 'running', found[i])
    apps[(split_running(found[i + 1]))] = true
  end
  for app in pairs(apps) do count_codes(app) end
end
