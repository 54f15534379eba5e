-- rate_limit: how often events start runs, by GCRA (S7.4). `rate:<id>` is the time at which the next start is due if all starts
-- keep their distance, as "ms parts": a part is 1/limit ms, so that nothing is ever rounded.
--@at limited: flow.rate
--@at refuse: flow.rate and rate_refusal(run.fn, flow.rate, now_ms)
--@at count: if flow.rate then count_rate(flow.rate, now_ms) end
local function rate_key(id) return prefix .. 'rate:' .. id end
local function rate_refusal(fn, rate, now_ms)
  local id, period_ms, limit = rate[1], rate[2], rate[3]
  local due_ms, parts = now_ms, 0
  local ms_text, parts_text = string.match(redis.call('GET', rate_key(id)) or '', '^(%d+) (%d+)$')
  if ms_text and tonumber(ms_text) >= now_ms then due_ms, parts = tonumber(ms_text), tonumber(parts_text) end
  -- A start is due each period / limit; `limit` of them may come at once, so up to limit - 1 distances early.
  if (due_ms - now_ms) * limit + parts > period_ms * (limit - 1) then
    return 'rate limit: ' .. limit .. ' in ' .. period_ms / 1000 .. ' s' .. key_text(fn, id)
  end
  rate.due_ms, rate.parts = due_ms, parts
end
local function count_rate(rate, now_ms)
  local limit, parts = rate[3], rate.parts + rate[2]
  local due_ms = rate.due_ms + math.floor(parts / limit)
  -- The lifetime only tidies up: a time that has passed means nothing.
  redis.call('SET', rate_key(rate[1]), string.format('%.0f %.0f', due_ms, parts % limit), 'PX', due_ms - now_ms + 3600000)
end
