-- final_event: the event about a run that did not complete, `taskflow/function.failed` or `.cancelled` (S5.5, S6.2).
-- It enters the outbox in the script that ends the run, and stands among the hints: the caller publishes it and clears the outbox.
-- If the caller dies first, beat does both. Ids of runs and functions need no escapes in JSON; `event` and `error` are JSON.
local BASE32 = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
-- A ULID that is the same however often it is made, and that nobody can guess without the secret (S1.7). Hex digits are digits of
-- Crockford's base32 too.
local function final_uid(run_id, status, now_ms)
  local time, rest = '', now_ms
  for _ = 1, 10 do
    local digit = rest % 32
    time = string.sub(BASE32, digit + 1, digit + 1) .. time
    rest = (rest - digit) / 32
  end
  local secret = redis.call('GET', prefix .. 'secret') or ''
  return time .. string.upper(string.sub(redis.sha1hex(secret .. run_id .. ':' .. status), 1, 16))
end
-- The headers of a run's event, as a member of another event: what comes of a run inherits them (S11.1). An event without headers
-- is searched, but not parsed.
local function inherited_headers(event)
  if not string.find(event, '"headers":', 1, true) then return '' end
  local headers = cjson.decode(event).headers
  return headers and ',"headers":' .. cjson.encode(headers) or ''
end
-- The event has the form that taskflow/event.py gives to events.
local function tell_end(run_id, fn, status, event, error, now_ms)
  local uid = final_uid(run_id, status, now_ms)
  local data = '{"function_id":"' .. fn .. '","run_id":"' .. run_id .. '","error":' .. error .. ',"event":' .. event .. '}'
  local text = '{"uid":"' .. uid .. '","id":"' .. uid .. '","name":"taskflow/function.' .. status .. '","data":' .. data
    .. ',"ts":' .. string.format('%.0f', now_ms) .. inherited_headers(event) .. '}'
  redis.call('ZADD', prefix .. 'outbox', now_ms, uid)
  redis.call('HSET', prefix .. 'outbox:events', uid, text)
  hints[#hints + 1] = SEP .. uid
  hints[#hints + 1] = text
end
