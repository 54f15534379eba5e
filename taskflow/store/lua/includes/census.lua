-- census: counts and lists of runs for people. The script that changes a run's status keeps them up to date.
-- `counts` is a hash: how many live runs there are, by function SEP queue SEP status; a zero has no field.
-- `runs:<fn>` SEP kind are sorted sets by when the run was made: `live` ones, and those that ended as `failed`, `cancelled` or
-- `skipped`.
-- `ended` is a stream of the runs that ended last. All runs that one script ends are one entry: run_id SEP status SEP run_id ...
-- `children:<run_id>` is a sorted set of the runs that a run has invoked, by when they were made.
-- A script that changes many runs writes once, at its end.
--@finally note_census when counted
local MAX_ENDED = 1000
local LIVE = 'live'
local counted, made_live, left_live, ended_rows = {}, {}, {}, {}
local census_ms
local function tally(fn, queue, status, difference)
  local field = fn .. SEP .. queue .. SEP .. status
  counted[field] = (counted[field] or 0) + difference
end
local function move_run(fn, queue, from, to)
  tally(fn, queue, from, -1)
  tally(fn, queue, to, 1)
end
-- A run is made, and is live. It also enters the index of all runs of its function.
local function enter_census(run_id, fn, queue, status, created)
  tally(fn, queue, status, 1)
  local rows = made_live[fn]
  if not rows then
    rows = {}
    made_live[fn] = rows
  end
  local at = #rows
  rows[at + 1], rows[at + 2] = created, run_id
end
-- A run ends. For one that was live, leave_census is called too; one that is skipped at once was never live.
local function note_ended(run_id, fn, status, created, now_ms)
  local at = #ended_rows
  ended_rows[at + 1], ended_rows[at + 2] = run_id, status
  census_ms = now_ms
  if status ~= COMPLETED then redis.call('ZADD', kind_key(fn, status), created, run_id) end
end
local function leave_census(run_id, fn, queue, from)
  tally(fn, queue, from, -1)
  local run_ids = left_live[fn]
  if not run_ids then
    run_ids = {}
    left_live[fn] = run_ids
  end
  run_ids[#run_ids + 1] = run_id
end
local function list_ended()
  local key, runs = prefix .. 'ended', table.concat(ended_rows, SEP)
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', MAX_ENDED, census_ms .. '-*', 'runs', runs)
  if type(added) ~= 'table' then return end
  -- The ids of a stream must grow, and this clock shows an earlier time than the clock that wrote the last one.
  local last_ms = string.match(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1][1], '^(%d+)')
  redis.call('XADD', key, 'MAXLEN', '~', MAX_ENDED, last_ms .. '-*', 'runs', runs)
end
local function note_census()
  for field, difference in pairs(counted) do
    if difference ~= 0 and redis.call('HINCRBY', prefix .. 'counts', field, difference) == 0 then
      redis.call('HDEL', prefix .. 'counts', field)
    end
  end
  for fn, rows in pairs(made_live) do
    on_pages('ZADD', runs_key(fn), rows)
    on_pages('ZADD', kind_key(fn, LIVE), rows)
  end
  for fn, run_ids in pairs(left_live) do on_pages('ZREM', kind_key(fn, LIVE), run_ids) end
  if census_ms then list_ended() end
end
