-- find_lost: find what was lost with a message or with a worker: work messages, events in the outbox, claims of dead workers. It is
-- one script, since an idle beat calls it all the time. Rules S7.1, S9.1 to S9.3.
-- KEYS   1 prefix
--@argv now_ms:int hint_age_ms:int event_age_ms:int silence_ms:int
--       hint_age_ms: a work message that was sent this long ago is lost if its queue still has ready runs. event_age_ms: an event
--       that is in the outbox for this long was not published. silence_ms: a worker without a heartbeat for this long is dead
-- Reply  {hints; events to publish: {uid, event (JSON), ...}; the dead: {{worker_id, child_id, ...}, ...}, where worker_id is ''
--        for a single child that is known to have ended; when (ms) the next of all these is lost if nothing changes, or ''; when
--        (ms) the first timer is due, or ''; 1 if bulk operations run}
-- Repeat finds the same events and dead, but asks for no second work message within hint_age_ms
local GRAVE_MS = 1200000
local next_ms
local function look_at(at_ms) next_ms = math.min(next_ms or at_ms, at_ms) end
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'queues')) do
  local app_id, queue = string.match(name, '^(.-)' .. SEP .. '(.*)$')
  if redis.call('EXISTS', queue_key(app_id, queue)) == 0 then
    redis.call('SREM', prefix .. 'queues', name)
    redis.call('HDEL', prefix .. 'hints', name)
  elseif not is_paused(name) then
    local sent_ms = tonumber(redis.call('HGET', prefix .. 'hints', name) or 0)
    if now_ms - sent_ms >= hint_age_ms then
      hint(app_id, queue, now_ms, true)
      sent_ms = now_ms
    end
    look_at(sent_ms + hint_age_ms)
  end
end
-- Look at the limits for which lanes wait: a limit that a deploy has raised has room that no ended claim gave back.
for _, limit in ipairs(redis.call('ZRANGE', prefix .. 'blocked', 0, 49)) do
  redis.call('ZADD', prefix .. 'blocked', 'XX', now_ms, limit)
  for _ = 1, 10 do
    if not unblock(limit, now_ms) then break end
  end
end
local events = {}
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'outbox', '-inf', now_ms - event_age_ms, 'LIMIT', 0, 100)) do
  local event = redis.call('HGET', prefix .. 'outbox:events', uid)
  if event then
    events[#events + 1] = uid
    events[#events + 1] = event
  else
    redis.call('ZREM', prefix .. 'outbox', uid)
  end
end
local unpublished = redis.call('ZRANGE', prefix .. 'outbox', 0, 0, 'WITHSCORES')
if unpublished[2] then look_at(tonumber(unpublished[2]) + event_age_ms) end
local dead = {}
for _, worker_id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'workers', '-inf', now_ms - silence_ms)) do
  local row = redis.call('SMEMBERS', prefix .. 'worker:' .. worker_id)
  table.insert(row, 1, worker_id)
  dead[#dead + 1] = row
end
-- A command of a dead child may arrive after its claims were handed back, and claim runs for nobody. So a child is watched for 20
-- minutes after its end: a kernel tries to deliver the data of a dead process for at most 16.
redis.call('ZREMRANGEBYSCORE', prefix .. 'graves', '-inf', now_ms - GRAVE_MS)
for _, child_id in ipairs(redis.call('ZRANGE', prefix .. 'graves', 0, -1)) do
  if redis.call('EXISTS', claims_key(child_id)) == 1 then dead[#dead + 1] = {'', child_id} end
end
local oldest = redis.call('ZRANGE', prefix .. 'workers', 0, 0, 'WITHSCORES')
if oldest[2] then look_at(tonumber(oldest[2]) + silence_ms) end
local first = redis.call('ZRANGE', prefix .. 'timers', 0, 0, 'WITHSCORES')
return {hints, events, dead, next_ms or '', first[2] or '', redis.call('EXISTS', prefix .. 'bulks_open')}
