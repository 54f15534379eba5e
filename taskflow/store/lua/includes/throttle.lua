-- throttle: how often runs start, by GCRA (S7.3). `throttle:<id>` is the time (us) at which the next start is due if all keep
-- their distance; a start is allowed up to the tolerance before that. Whole microseconds: exact in Lua's numbers.
local function throttle_key(id) return prefix .. 'throttle:' .. id end
-- When (ms) the next run of the lane may start; 0 for a lane without a throttle.
local function opens_at(fn, lane)
  local _, throttle = split_lane(lane)
  local tolerance_us = throttle and settings_of(fn).tolerance_us
  if not tolerance_us then return 0 end
  local due_us = redis.call('GET', throttle_key(throttle))
  return due_us and math.ceil((tonumber(due_us) - tolerance_us) / 1000) or 0
end
-- A run of the lane starts. Returns the lane that limits it from now on: it has no throttle.
local function count_start(fn, lane, now_ms)
  local limits, throttle = split_lane(lane)
  local interval_us = settings_of(fn).interval_us
  if throttle and interval_us then
    local due_us = math.max(tonumber(redis.call('GET', throttle_key(throttle)) or 0), now_ms * 1000) + interval_us
    -- The lifetime only tidies up: a time that has passed means nothing.
    local life_ms = math.ceil(due_us / 1000) - now_ms + 3600000
    redis.call('SET', throttle_key(throttle), string.format('%.0f', due_us), 'PX', life_ms)
  end
  return limits
end
