local prefix = KEYS[1]
local function is_in_part(fn, part, parts)
  local last = {string.byte(fn, -3, -1)}
  local sum = #fn
  for i = 1, #last do sum = sum + last[i] * i * i end
  return sum % parts == part
end
local function chosen_functions(named, part, parts)
  if named[1] then return named end
  local chosen = {}
  for _, fn in ipairs(redis.call('SMEMBERS', prefix .. 'known_functions')) do
    if is_in_part(fn, part, parts) then chosen[#chosen + 1] = fn end
  end
  return chosen
end
local from_ms, from_id, to_ms, oldest_first, limit, most, part, parts = ARGV[1], ARGV[2], ARGV[3], (ARGV[4] ~= ''), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local FIRST_READ, LARGEST_READ = 1, 256
local wanted, are_wanted = {}, false
for statuses_at = 10 + ARGV[9] + 1, 10 + ARGV[9] + 1 + ARGV[10 + ARGV[9] + 1 - 1] - 1 do
local status = ARGV[statuses_at]
 wanted[status], are_wanted = true, true end
local named = {}
for functions_at = 10 + ARGV[9] + 1 + ARGV[10 + ARGV[9]], #ARGV do
local fn = ARGV[functions_at]
 named[#named + 1] = fn end
local command = oldest_first and 'ZRANGEBYSCORE' or 'ZREVRANGEBYSCORE'
local function is_before(id, other)
  if oldest_first then return id < other end
  return id > other
end
local first_read = named[1] and not named[2] and limit or FIRST_READ
local function read_rows(source)
  source.rows = redis.call(command, source.key, from_ms, to_ms, 'WITHSCORES', 'LIMIT', source.skip, source.size)
  source.skip, source.at = source.skip + #source.rows / 2, 1
  source.size = math.min(source.size * 4, LARGEST_READ)
  return source.rows[1]
end
local function step_on(source)
  source.at = source.at + 2
  while true do
    if not source.rows[source.at] and not read_rows(source) then return false end
    source.id, source.created = source.rows[source.at], source.rows[source.at + 1]
    source.ms = tonumber(source.created)
    if from_id == '' or source.created ~= from_ms or is_before(from_id, source.id) then return true end
    source.at = source.at + 2
  end
end
local heap = {}
local function comes_first(one, other)
  if one.ms == other.ms then return is_before(one.id, other.id) end
  return (one.ms < other.ms) == oldest_first
end
local function rise(place)
  while place > 1 do
    local above = math.floor(place / 2)
    if not comes_first(heap[place], heap[above]) then return end
    heap[place], heap[above] = heap[above], heap[place]
    place = above
  end
end
local function sink()
  local place, count = 1, #heap
  while true do
    local first = place
    for child = 2 * place, math.min(2 * place + 1, count) do
      if comes_first(heap[child], heap[first]) then first = child end
    end
    if first == place then return end
    heap[place], heap[first] = heap[first], heap[place]
    place = first
  end
end
local function add_source(key, is_checked)
  local source = {key = key, is_checked = is_checked, rows = {}, at = -1, skip = 0, size = first_read}
  if not step_on(source) then return end
  heap[#heap + 1] = source
  rise(#heap)
end
local function functions_with_live()
  local found = {}
  for _, field in ipairs(redis.call('HKEYS', prefix .. 'counts')) do
    local fn, status = string.match(field, '^(.-)' .. '\31' .. '.*' .. '\31' .. '(.-)$')
    if wanted[status] then found[fn] = true end
  end
  return found
end
local are_all_live = wanted['scheduled'] and wanted['queued'] and wanted['running'] and wanted['waiting']
local chosen = chosen_functions(named, part, parts)
for kinds_at = 10, 10 + ARGV[9] - 1 do
local kind = ARGV[kinds_at]

  local live = kind == 'live' and functions_with_live()
  for _, fn in ipairs(chosen) do
    if kind == '' then
      add_source((prefix .. 'runs:' .. fn), are_wanted)
    elseif not live or live[fn] then
      add_source((prefix .. 'runs:' .. fn .. '\31' .. kind), live and not are_all_live)
    end
  end
end
local found, looked, last = {}, 0, {created = '', id = ''}
while heap[1] and #found < 2 * limit do
  local source = heap[1]
  local is_found = true
  if source.is_checked then
    if looked >= most then return {found, last.created, last.id} end
    looked = looked + 1
    is_found = wanted[redis.call('HGET', (prefix .. 'run:' .. source.id), 'status')]
  end
  last = {created = source.created, id = source.id}
  if is_found then found[#found + 1], found[#found + 2] = source.id, source.created end
  if not step_on(source) then
    heap[1] = heap[#heap]
    heap[#heap] = nil
  end
  sink()
end
return {found, '', ''}
