-- find_lost: work whose message may be lost. Rules S9.1, S9.2.
-- KEYS   1 prefix
-- ARGV   1 now_ms   2 how old (ms) a work message must be to count as lost   3 how old (ms) an unpublished event
-- Reply  {hints, {uid, event, ...} to publish}
--@include keys hint
local now_ms = tonumber(ARGV[1])
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'queues')) do
  local app, queue = string.match(name, '^(.-)' .. SEP .. '(.*)$')
  if redis.call('EXISTS', queue_key(app, queue)) == 0 then
    redis.call('SREM', prefix .. 'queues', name)
    redis.call('HDEL', prefix .. 'hints', name)
  else
    local sent_ms = redis.call('HGET', prefix .. 'hints', name)
    if not sent_ms or now_ms - tonumber(sent_ms) >= tonumber(ARGV[2]) then hint(app, queue, now_ms, true) end
  end
end
local events = {}
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'outbox', '-inf', now_ms - tonumber(ARGV[3]), 'LIMIT', 0, 100)) do
  local event = redis.call('HGET', prefix .. 'outbox:events', uid)
  if event then
    events[#events + 1] = uid
    events[#events + 1] = event
  else
    redis.call('ZREM', prefix .. 'outbox', uid)
  end
end
return {hints, events}
