-- list_runs: the newest runs of some functions, or of all, merged from the indexes of each: newest first, those of one millisecond
-- by id; or the oldest, the other way round. So no index over all runs is needed, for which each run would have to pay.
-- Rules S10.8, S14.1.
-- KEYS   1 prefix
--@argv from_ms from_id to_ms oldest_first:flag limit:int most:int part:int parts:int kinds[] statuses[] functions[]
--       from_ms, from_id: the place in the list after which to begin; with '' as the id at the first run that was made then, and
--       '+inf' or '-inf' for its beginning. to_ms: where the list ends, this millisecond included. most: of runs whose status has
--       to be read, look at no more. part, parts: if no functions are named, list the part of this number, from 0, of so many
--       parts. kinds: the indexes to read, '' for that of all runs. statuses: those that are wanted; all if there is none
-- Reply  {{run_id, created, ...}, the place up to which it has looked, if that was cut short: created or '', run_id}
-- Repeat changes nothing, as a call does
local FIRST_READ, LARGEST_READ = 1, 256
local wanted, are_wanted = {}, false
for status in statuses do wanted[status], are_wanted = true, true end
local named = {}
for fn in functions do named[#named + 1] = fn end
local command = oldest_first and 'ZRANGEBYSCORE' or 'ZREVRANGEBYSCORE'
local function is_before(id, other)
  if oldest_first then return id < other end
  return id > other
end
local first_read = named[1] and not named[2] and limit or FIRST_READ

-- A source is an index of one function: rows {run_id, created, ...} from place `at` on, which come behind `skip` others.
local function read_rows(source)
  source.rows = redis.call(command, source.key, from_ms, to_ms, 'WITHSCORES', 'LIMIT', source.skip, source.size)
  source.skip, source.at = source.skip + #source.rows / 2, 1
  source.size = math.min(source.size * 4, LARGEST_READ)
  return source.rows[1]
end
-- Go to the source's next run; false behind its last.
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

-- The sources by their next runs, as a heap: none comes before the one of which it is the child.
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

-- By function, whether the counts know a live run of a wanted status.
local function functions_with_live()
  local found = {}
  for _, field in ipairs(redis.call('HKEYS', prefix .. 'counts')) do
    local fn, status = string.match(field, '^(.-)' .. SEP .. '.*' .. SEP .. '(.-)$')
    if wanted[status] then found[fn] = true end
  end
  return found
end
local are_all_live = wanted[SCHEDULED] and wanted[QUEUED] and wanted[RUNNING] and wanted[WAITING]
local chosen = chosen_functions(named, part, parts)
for kind in kinds do
  local live = kind == LIVE and functions_with_live()
  for _, fn in ipairs(chosen) do
    if kind == '' then
      add_source(runs_key(fn), are_wanted)
    elseif not live or live[fn] then
      add_source(kind_key(fn, kind), live and not are_all_live)
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
    is_found = wanted[redis.call('HGET', run_key(source.id), 'status')]
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
