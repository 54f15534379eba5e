-- idempotency: one run for each value in 24 h (S7.8). `idempotency:<id>` is a hash: the run, and until when (ms) it counts.
--@at limited: flow.idem
--@at refuse: flow.idem and idempotency_refusal(run.fn, flow.idem, now_ms)
--@at count: if flow.idem then note_idempotency(flow.idem, landed or run.id, now_ms) end
local IDEMPOTENCY_MS = 86400000
local function idempotency_refusal(fn, id, now_ms)
  local known = redis.call('HMGET', prefix .. 'idempotency:' .. id, 'run', 'until')
  if not known[1] or tonumber(known[2]) <= now_ms then return nil end
  return 'idempotency: ' .. string.sub(id, #fn + 2) .. ' has run as ' .. known[1]
end
local function note_idempotency(id, run_id, now_ms)
  redis.call('HSET', prefix .. 'idempotency:' .. id, 'run', run_id, 'until', now_ms + IDEMPOTENCY_MS)
  -- The lifetime only tidies up.
  redis.call('PEXPIRE', prefix .. 'idempotency:' .. id, IDEMPOTENCY_MS + 3600000)
end
