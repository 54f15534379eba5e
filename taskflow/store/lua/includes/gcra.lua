-- gcra: how often something may happen: `limit` times in `period_ms`, so many at once too. What is kept is the time at which the
-- next one is due if all keep their distance, as "ms parts": a part is 1/limit ms, so that nothing is ever rounded.
local function gcra_due(text, now_ms)
  local due_ms, parts = string.match(text or '', '^(%d+) (%d+)')
  if due_ms and tonumber(due_ms) >= now_ms then return tonumber(due_ms), tonumber(parts) end
  return now_ms, 0
end
-- How long (ms) to wait until `count` may happen. One is due each period / limit; `limit` of them may come at once, so up to
-- limit - 1 distances early.
local function gcra_wait(due_ms, parts, count, limit, period_ms, now_ms)
  local early = (due_ms - now_ms) * limit + parts - period_ms * (limit - count)
  return early > 0 and math.ceil(early / limit) or 0
end
-- When the next one is due once `count` have happened.
local function gcra_after(due_ms, parts, count, limit, period_ms)
  local sum = parts + period_ms * count
  return due_ms + math.floor(sum / limit), sum % limit
end
