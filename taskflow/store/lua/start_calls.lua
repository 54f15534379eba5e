-- start_calls: make a run of a task for each of its calls. Rules S15.1, S15.2.
-- KEYS   1 prefix
--@argv now_ms function_id queue version start_at_ms:int start_timeout_ms:int finish_timeout_ms:int expires_ms keep chosen_id
--@argv calls[run_id flow event digest]
--       expires_ms: when the runs expire, or ''. keep: how long this call's runs are kept, as `keep` in includes/retention, or ''.
--       chosen_id: by which the caller knows the run, or ''; then there is one call, and `digest` is that of its arguments.
--       event: JSON, which the run keeps by itself, as nobody looks a call up by its name
-- Reply  {hints, for each call the run that stands for it; '' when the chosen id is that of a call with other arguments}
-- Repeat makes no second run: the runs' ids, and that of the caller, are known. A call that was debounced joins its run again
-- `called:<function>:<chosen id>` is the run, which has the field `chosen`: both are removed together.
local chosen = chosen_id ~= '' and called_key(function_id, chosen_id)
local known_id = chosen and redis.call('GET', chosen)
local known = known_id and redis.call('HMGET', run_key(known_id), 'function', 'digest')
if known and known[1] then
  for digest in calls do
    return {hints, {digest == known[2] and known_id or ''}}
  end
end
redis.call('SADD', prefix .. 'known_functions', function_id)  -- no worker may have registered it so far
local is_plain = start_at_ms == 0 and start_timeout_ms == 0 and finish_timeout_ms == 0 and keep == '' and not is_paused(function_id)
-- What is said of this call alone.
local own = {}
local function add(name, value) own[#own + 1], own[#own + 2] = name, value end
if expires_ms ~= '' then add('expires', expires_ms) end
if keep ~= '' then add('keep', keep) end
if own[1] then add('tied', 'more') end
-- The run that stands for a call of which `create_run` said this: a limit may have joined the call to another run.
local function standing(run_id, landed)
  if not landed or string.sub(landed, 1, 9) == 'skipped: ' then return run_id end
  return string.match(landed, '^debounced: run (%S+)') or landed
end
local function make(run_id, flow, event)
  if is_plain and flow == '' then
    create_plain(run_id, function_id, queue, version, '', now_ms)
    redis.call('HSET', run_key(run_id), 'cause', 'invoke', 'event', event)
    return run_id
  end
  --@late create_run create_run_once
  local _, landed = create_run({
    id = run_id, fn = function_id, queue = queue, event = event, cause = 'invoke', version = version, start_at_ms = start_at_ms,
    start_timeout_ms = start_timeout_ms, finish_timeout_ms = finish_timeout_ms, parent = '', flow = flow,
  }, '', now_ms)
  if not landed and own[1] then redis.call('HSET', run_key(run_id), unpack(own)) end
  return standing(run_id, landed)
end
local made = {}
for run_id, flow, event, digest in calls do
  local stands = run_id
  if redis.call('EXISTS', run_key(run_id)) == 0 then
    stands = make(run_id, flow, event)
    if chosen and stands == run_id then
      redis.call('HSET', run_key(run_id), 'chosen', chosen_id, 'digest', digest)
      redis.call('SET', chosen, run_id)
    end
  end
  made[#made + 1] = stands
end
return {hints, made}
