local prefix = KEYS[1]
local hints, hinted = {}, {}
local function hint(app, queue, now_ms, force)
  local name = app .. '\31' .. queue
  if hinted[name] then return end
  hinted[name] = true
  if not force then
    local last_ms = redis.call('HGET', prefix .. 'hints', name)
    if last_ms and now_ms - tonumber(last_ms) < 2000 then return end
  end
  redis.call('HSET', prefix .. 'hints', name, now_ms)
  hints[#hints + 1] = app
  hints[#hints + 1] = queue
end
local now_ms, app_id, queue = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local since_ms = redis.call('HGET', prefix .. 'paused', (app_id .. '\31' .. queue))
if not since_ms then return {'', hints} end
redis.call('HDEL', prefix .. 'paused', (app_id .. '\31' .. queue))
if redis.call('EXISTS', (prefix .. 'queue:' .. app_id .. ':' .. queue)) == 1 then hint(app_id, queue, now_ms, true) end
return {since_ms, hints}
