-- rate_limit: how often events start runs, by GCRA (S7.4). `rate:<id>` is when the next start is due, see includes/gcra.
--@at limited: flow.rate
--@at refuse: flow.rate and rate_refusal(run.fn, flow.rate, now_ms)
--@at count: if flow.rate then count_rate(flow.rate, now_ms) end
local function rate_key(id) return prefix .. 'rate:' .. id end
local function rate_refusal(fn, rate, now_ms)
  local id, period_ms, limit = rate[1], rate[2], rate[3]
  local due_ms, parts = gcra_due(redis.call('GET', rate_key(id)), now_ms)
  if gcra_wait(due_ms, parts, 1, limit, period_ms, now_ms) > 0 then
    return 'rate limit: ' .. limit .. ' in ' .. period_ms / 1000 .. ' s' .. key_text(fn, id)
  end
  rate.due_ms, rate.parts = due_ms, parts
end
local function count_rate(rate, now_ms)
  local due_ms, parts = gcra_after(rate.due_ms, rate.parts, 1, rate[3], rate[2])
  -- The lifetime only tidies up: a time that has passed means nothing.
  redis.call('SET', rate_key(rate[1]), string.format('%.0f %.0f', due_ms, parts), 'PX', due_ms - now_ms + 3600000)
end
