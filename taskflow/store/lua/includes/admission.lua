-- admission: decide whether an event makes a run, joins one, or is skipped (S7.4 to S7.9, S10.4). Each limit's include has the code
-- for the stages at which the limit takes part, in marks like `--@at refuse: <code>`:
--   limited  true when the limit applies to the run: `admit` is called
--   delay    true when the run is made for later
--   refuse   the reason why the event is skipped, or false. It only looks: an event that is refused for one reason uses nothing of
--            the other limits up (S7.10)
--   join     sets `landed` to the run that the event goes to, if there is one, and `text` when the event's record is to say more
--   count    counts the event
--   make     adds to the run that is made: run.fields, and run.behind when the run waits for the end of another one
-- The code sees run and flow (as in create_run), now_ms, and is_delayed (the event is for later); from `refuse` on is_scheduled
-- (the run is to start later), and from `count` on landed.
local function add_field(run, name, value)
  run.fields = run.fields or {}
  run.fields[#run.fields + 1] = name
  run.fields[#run.fields + 1] = value
end
-- Returns what the event's record says when no run is made: 'skipped: <reason>', or the run that the event went to; nil: make it.
-- A rerun is made even while the function is paused, since a person asked for it; it is held then, like other live runs (S10.4).
local function admit(run, flow, now_ms)
  if is_paused(run.fn) and not run.rerun_of then
    skip_run(run, 'paused', now_ms)
    return 'skipped: paused'
  end
  if not flow then return nil end
  local is_delayed = run.start_at_ms > now_ms
  local is_scheduled = is_delayed or
    --@any delay
  local reason =
    --@any refuse
  if reason then
    skip_run(run, reason, now_ms)
    return 'skipped: ' .. reason
  end
  local landed, text
  --@each join
  --@each count
  if landed then return text or landed end
  --@each make
  return nil
end
