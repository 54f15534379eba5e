-- census: what people ask for of runs, kept where a run's status changes, in the same script.
-- `counts` is a hash: how many live runs there are, by function SEP queue SEP status; what is zero has no field.
-- `runs:<fn>` SEP kind are sorted sets by when the run was made: `live` ones, and those that ended as `failed`, `cancelled` or
-- `skipped`.
-- `ended` is a stream of the runs that ended last: run_id, status, ...; an entry for all of a script.
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
-- A run is made, and lives.
local function enter_census(run_id, fn, queue, status, created)
  tally(fn, queue, status, 1)
  made_live[fn] = made_live[fn] or {}
  local at = #made_live[fn]
  made_live[fn][at + 1], made_live[fn][at + 2] = created, run_id
end
-- A run ends; one that is skipped at once was never live.
local function note_ended(run_id, fn, status, created, now_ms)
  ended_rows[#ended_rows + 1], ended_rows[#ended_rows + 2] = run_id, status
  census_ms = now_ms
  if status ~= COMPLETED then redis.call('ZADD', kind_key(fn, status), created, run_id) end
end
local function leave_census(run_id, fn, queue, from)
  tally(fn, queue, from, -1)
  left_live[fn] = left_live[fn] or {}
  left_live[fn][#left_live[fn] + 1] = run_id
end
local function list_ended()
  local key, at_ms = prefix .. 'ended', string.format('%.0f', census_ms)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  -- Ids grow, though a clock may say an earlier time.
  local last_ms = last and string.match(last[1], '^(%d+)')
  if last_ms and tonumber(last_ms) > census_ms then at_ms = last_ms end
  redis.call('XADD', key, 'MAXLEN', '~', MAX_ENDED, at_ms .. '-*', unpack(ended_rows))
end
local function note_census()
  for field, difference in pairs(counted) do
    if difference ~= 0 and redis.call('HINCRBY', prefix .. 'counts', field, difference) == 0 then
      redis.call('HDEL', prefix .. 'counts', field)
    end
  end
  for fn, rows in pairs(made_live) do on_pages('ZADD', kind_key(fn, LIVE), rows) end
  for fn, run_ids in pairs(left_live) do on_pages('ZREM', kind_key(fn, LIVE), run_ids) end
  if census_ms then list_ended() end
end
