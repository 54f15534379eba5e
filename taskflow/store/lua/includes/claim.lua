-- claim: who owns a run, and what the owner may do.
-- A run is owned while its status is `running`, by the child in `by` (afterwards that is the child that executed it last). The
-- fence grows with each change of owner, and each commit must name both (S9.4).
local function owns(run_id, child_id, fence)
  local run = redis.call('HMGET', run_key(run_id), 'by', 'fence', 'status')
  return run[1] == child_id and run[2] == fence and run[3] == RUNNING
end
-- `claims:<child>` is a hash of what a child holds: jobs of offered steps with their fence, and runs with fence SEP function SEP
-- queue. A `+` behind the fence says that more stands in the run for its owner to heed: what it is tied to, a cancel, crashes,
-- failed attempts, a watcher. A claim without it is plain: a commit need not read the run.
local function claim_text(fence, is_plain, fn, queue) return fence .. (is_plain and '' or '+') .. SEP .. fn .. SEP .. queue end
-- By the text of a claim: {fence, function, queue} of a plain one, else false.
local plain_claims = {}
local function plain_claim(text)
  local known = plain_claims[text]
  if known == nil then
    local fence, fn, queue = string.match(text, '^(%d+)' .. SEP .. '(.-)' .. SEP .. '(.*)$')
    known = fence and {fence, fn, queue}
    plain_claims[text] = known or false
  end
  return known
end
-- From now on the owner of a run, if there is one, has more to heed: the claim is plain no more.
local function mark_claim(run_id, child_id)
  local text = redis.call('HGET', claims_key(child_id), run_id)
  local claim = text and plain_claim(text)
  if claim then redis.call('HSET', claims_key(child_id), run_id, claim_text(claim[1], false, claim[2], claim[3])) end
end
-- Set the timers of a run that starts for the first time (S6.3). Each timeout may be nil.
local function start_clocks(run_id, start_timeout_ms, finish_timeout_ms, now_ms)
  if start_timeout_ms then clear_timer('start_timeout' .. SEP .. run_id) end
  if finish_timeout_ms then set_timer(now_ms + tonumber(finish_timeout_ms), 'finish_timeout' .. SEP .. run_id) end
end
