-- plain_run: make a run that nothing hangs on (see is_tied) and that may execute now. Most runs are so, and this takes a third of
-- what create_run takes. Their places among the ready and the claimed runs are written at the script's end.
--@finally note_plain when plain_ready
-- By function and queue: {score, run_id, ...}.
local plain_ready = {}
-- What the child claims: {run_id, text of the claim, ...}.
local plain_claimed, plain_child, plain_now = {}, nil, nil
local function create_plain(run_id, fn, queue, version, child_id, now)
  local key, fence = run_key(run_id), 0
  if child_id ~= '' and is_first(fn, queue) then
    redis.call('HSET', key, 'function', fn, 'created', now, 'version', version, 'status', RUNNING, 'by', child_id, 'fence', '1',
      'started', now)
    local at = #plain_claimed
    plain_claimed[at + 1], plain_claimed[at + 2] = run_id, claim_text(1, true, fn, queue)
    plain_child, plain_now, fence = child_id, now, 1
    enter_census(run_id, fn, queue, RUNNING, now)
  else
    redis.call('HSET', key, 'function', fn, 'created', now, 'version', version, 'status', QUEUED)
    local queues = plain_ready[fn]
    if not queues then
      queues = {}
      plain_ready[fn] = queues
    end
    local rows = queues[queue]
    if not rows then
      rows = {}
      queues[queue], plain_now, has_ready[ready_key(fn, queue)] = rows, now, true
    end
    local at = #rows
    rows[at + 1], rows[at + 2] = now, run_id
    enter_census(run_id, fn, queue, QUEUED, now)
  end
  if queue ~= DEFAULT_QUEUE then redis.call('HSET', key, 'queue', queue) end
  return fence
end
local function note_plain()
  if plain_child then
    note_claimant(plain_child, plain_now)
    on_pages('HSET', claims_key(plain_child), plain_claimed)
  end
  for fn, queues in pairs(plain_ready) do
    for queue, rows in pairs(queues) do
      on_pages('ZADD', ready_key(fn, queue), rows)
      list_function(queue, fn, fn, plain_now, tonumber(plain_now))
    end
  end
end
