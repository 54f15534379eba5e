-- lanes: the ready runs of a function with limits stand apart by the keys of these limits, so that a key at its limit holds up no
-- other one (S7.1, S7.3, S7.11). A lane is the ids of the concurrency limits, joined by \30; as long as its runs have not started,
-- \29 and the id of their throttle follow. taskflow/flow/lane.py describes it. A lane with ready runs stands in exactly one of
--   lanes:<queue>:<fn>   it is to be served, by its turn: when its best run was made, or when it was served last, if that is later
--   blocked:<limit id>   it found this limit reached; a place that is given back brings the first lane back
--   timers               it found its throttle closed, and comes back when that opens
-- `blocked` is a sorted set of the limits for which lanes wait, by when beat has looked at them last.
-- `places:<limit id>` is a set of the runs and steps that execute under a limit. A place belongs to a claim: who ends the claim
-- gives it back.
-- LANES stands after a function's name in its queue's index, for the runs of all its lanes.
local LANES = SEP
-- So lanes are served in turn even within one millisecond.
local TURN_MS = 0.001
local function lane_key(fn, queue, lane) return ready_key(fn .. SEP .. lane, queue) end
local function lanes_key(fn, queue) return prefix .. 'lanes:' .. queue .. ':' .. fn end
local function places_key(limit) return prefix .. 'places:' .. limit end
local function blocked_key(limit) return prefix .. 'blocked:' .. limit end
local function lane_member(queue, fn, lane) return queue .. SEP .. fn .. SEP .. lane end
-- A lane taken apart, once a script: {text: the lane without the throttle, limits: their ids, throttle: its id or nil}.
local known_lanes = {}
local function parse_lane(lane)
  local known = known_lanes[lane]
  if known then return known end
  local text, throttle = string.match(lane, '^(.-)\29(.*)$')
  known = {text = text or lane, throttle = throttle, limits = {}}
  for limit in string.gmatch(known.text, '[^\30]+') do known.limits[#known.limits + 1] = limit end
  known_lanes[lane] = known
  return known
end
local function split_lane(lane)
  local known = parse_lane(lane)
  return known.text, known.throttle
end
local function each_limit(lane, visit)
  for nth, limit in ipairs(parse_lane(lane).limits) do visit(limit, nth) end
end
-- What the function's limits are now: {limits = {number, ...}, interval_us, tolerance_us, max_crashes}. All are nil for a function
-- that is gone.
local known_settings = {}
local function settings_of(fn)
  local settings = known_settings[fn]
  if not settings then
    local text = redis.call('HGET', prefix .. 'flow', fn) or '- - - -'
    local first, second, interval_us, tolerance_us, max_crashes = string.match(text, '^(%S+) (%S+) (%S+) (%S+) ?(%S*)$')
    settings = {limits = {tonumber(first), tonumber(second)}}
    settings.interval_us, settings.tolerance_us = tonumber(interval_us), tonumber(tolerance_us)
    settings.max_crashes = tonumber(max_crashes)
    known_settings[fn] = settings
  end
  return settings
end
local function is_full(limit, most) return most and redis.call('SCARD', places_key(limit)) >= most end
-- The first of the lane's limits that is reached.
local function full_limit(fn, lane)
  local limits, full = settings_of(fn).limits, nil
  each_limit(lane, function(limit, nth)
    if not full and is_full(limit, limits[nth]) then full = limit end
  end)
  return full
end

-- Let a lane be served that stands in none of the three places.
local function serve_lane(queue, fn, lane, turn, now_ms, silent)
  local head = redis.call('ZRANGE', lane_key(fn, queue, lane), 0, 0, 'WITHSCORES')
  if not head[1] then return end
  redis.call('ZADD', lanes_key(fn, queue), turn, lane)
  list_function(queue, fn, fn .. LANES, head[2], now_ms, silent)
end
-- A place under this limit may be free: serve the lane that has waited for it longest.
local function unblock(limit, now_ms, silent)
  local first = redis.call('ZRANGE', blocked_key(limit), 0, 0, 'WITHSCORES')
  if not first[1] then return false end
  local queue, fn, lane = string.match(first[1], '^(.-)' .. SEP .. '(.-)' .. SEP .. '(.*)$')
  local most
  each_limit(lane, function(id, nth) if id == limit then most = settings_of(fn).limits[nth] end end)
  if is_full(limit, most) then return false end
  redis.call('ZREM', blocked_key(limit), first[1])
  if redis.call('EXISTS', blocked_key(limit)) == 0 then redis.call('ZREM', prefix .. 'blocked', limit) end
  -- A message is asked for even if one is under way to others: the process that gives the place back then claims the next run
  -- itself, and no place is idle.
  if not silent then hint(app_of(fn), queue, now_ms, true) end
  serve_lane(queue, fn, lane, first[2], now_ms, silent)
  -- A paused function does not take the place.
  if is_paused(fn) then return unblock(limit, now_ms, silent) end
  return true
end
-- The lane has found its limit `full` reached, and waits for it. A place under its other limit goes to others.
local function block_lane(queue, fn, lane, turn, full, now_ms)
  redis.call('ZREM', lanes_key(fn, queue), lane)
  redis.call('ZADD', blocked_key(full), turn, lane_member(queue, fn, lane))
  redis.call('ZADD', prefix .. 'blocked', 'NX', now_ms, full)
  each_limit(lane, function(limit) if limit ~= full then unblock(limit, now_ms) end end)
end

local function make_lane_ready(member, fn, queue, lane, score, now_ms, silent)
  local key = lane_key(fn, queue, lane)
  local is_listed = redis.call('EXISTS', key) == 1
  redis.call('ZADD', key, score, member)
  if not is_listed then serve_lane(queue, fn, lane, score, now_ms, silent) end
end
local function remove_from_lane(member, fn, queue, lane, now_ms)
  local key = lane_key(fn, queue, lane)
  if redis.call('ZREM', key, member) == 0 or redis.call('EXISTS', key) == 1 then return end
  local member_of_lane = lane_member(queue, fn, lane)
  clear_timer('lane' .. SEP .. member_of_lane)
  if redis.call('ZREM', lanes_key(fn, queue), lane) == 1 and redis.call('EXISTS', lanes_key(fn, queue)) == 0 then
    unlist_function(queue, fn, fn .. LANES)
  end
  each_limit(lane, function(limit)
    if redis.call('ZREM', blocked_key(limit), member_of_lane) == 1 and redis.call('EXISTS', blocked_key(limit)) == 0 then
      redis.call('ZREM', prefix .. 'blocked', limit)
    end
    -- The lane may have been served for a place that it does not take now.
    unblock(limit, now_ms)
  end)
end

local function take_places(lane, holder)
  each_limit(lane, function(limit) redis.call('SADD', places_key(limit), holder) end)
end
-- Give back the places of claims that end. holders: runs, or jobs of offered steps.
local function free_places(lane, holders, now_ms, silent)
  each_limit(lane, function(limit)
    for _ = 1, on_pages('SREM', places_key(limit), holders) do
      if not unblock(limit, now_ms, silent) then break end
    end
  end)
end
local function free_place(lane, holder, now_ms, silent)
  if lane then free_places(lane, {holder}, now_ms, silent) end
end
