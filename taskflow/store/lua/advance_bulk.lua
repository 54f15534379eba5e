-- advance_bulk: note a portion of a bulk operation, and if it cancels runs, cancel them: both or neither, so that each run counts
-- once. Rule S14.6.
-- KEYS   1 prefix
--@argv now_ms:int bulk_id turn place is_over:flag looked:int done:int failed:int problems reason runs[run_id reached]
--       turn: the one that the caller has read; with another one, another beat has done this portion. place: how far it has come.
--       is_over: there is no run beyond. looked, done, failed: numbers of runs, without those of `runs`. problems: JSON, or '' for
--       no change. runs: those to cancel, each with the place after it
-- Reply  {1, or 0 if the turn is over or the operation has ended; hints}. The script stops before it works for too long: the next
--        portion begins after the last run that it cancelled
-- Repeat gives 0
local MOST_WORK = 1000
local key = bulk_key(bulk_id)
local known = redis.call('HMGET', key, 'status', 'turn')
if known[1] ~= RUNNING or known[2] ~= turn then return {0, hints} end
local work, last_place = 0, nil
for run_id, reached in runs do
  work = work + 20 + redis.call('HLEN', steps_key(run_id))
  if work > MOST_WORK and last_place then
    place, is_over = last_place, false
    break
  end
  local outcome = cancel(run_id, reason, now_ms)
  looked = looked + 1
  if outcome == CANCELLED or outcome == 'requested' then done = done + 1 end
  last_place = reached
end
redis.call('HSET', key, 'place', place)
if problems ~= '' then redis.call('HSET', key, 'problems', problems) end
redis.call('HINCRBY', key, 'turn', 1)
redis.call('HINCRBY', key, 'looked', looked)
redis.call('HINCRBY', key, 'done', done)
redis.call('HINCRBY', key, 'failed', failed)
if is_over then end_bulk(bulk_id, COMPLETED, now_ms) end
return {1, hints}
