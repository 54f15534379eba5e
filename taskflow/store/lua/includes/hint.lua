-- hint: note that a queue needs a work message.
-- One message in flight for each queue is enough: its receiver claims what it can, and asks for another message if work is left.
-- The mark counts for HINT_LIFE_MS, so that a lost message delays work and never strands it (S9.2).
local HINT_LIFE_MS = 2000
-- For the reply: {app, queue, ...}. An event of the outbox that is to be published now stands among them as SEP uid, event (JSON).
local hints, hinted = {}, {}
local function hint(app, queue, now_ms, force)
  local name = app .. SEP .. queue
  if hinted[name] then return end
  hinted[name] = true
  if not force then
    local last_ms = redis.call('HGET', prefix .. 'hints', name)
    if last_ms and now_ms - tonumber(last_ms) < HINT_LIFE_MS then return end
  end
  redis.call('HSET', prefix .. 'hints', name, now_ms)
  hints[#hints + 1] = app
  hints[#hints + 1] = queue
end
