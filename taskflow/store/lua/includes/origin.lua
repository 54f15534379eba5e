-- origin: the queue, the cause and the event of a run, as the run's hash has them. Usual values are left out, so that an ended run
-- is small: the queue `default`, the cause `event`, and the text of an event that has a record of its own. store/records.py adds
-- them again when a run is read.
local DEFAULT_QUEUE = 'default'
local DEFAULT_CAUSE = 'event'
-- own, uid: the fields `event` and `uid` of the run, which has the uid only when the run's id does not begin with it.
local function event_uid(run_id, uid) return uid or string.match(run_id, '^(%w+)%-') or '' end
local function event_of(run_id, own, uid) return own or event_text(event_uid(run_id, uid)) end
local function add_event(fields, run_id, text, uid)
  local at = #fields
  if not uid then
    fields[at + 1], fields[at + 2] = 'event', text
  elseif event_uid(run_id) ~= uid then
    fields[at + 1], fields[at + 2] = 'uid', uid
  end
end
-- parent: run_id SEP step_key of the invoke.
local function parent_of(parent) return string.match(parent, '^(.-)' .. SEP .. '(.*)$') end
local function add_origin(fields, run)
  if run.queue ~= DEFAULT_QUEUE then
    fields[#fields + 1] = 'queue'
    fields[#fields + 1] = run.queue
  end
  if run.cause ~= DEFAULT_CAUSE then
    fields[#fields + 1] = 'cause'
    fields[#fields + 1] = run.cause
  end
  add_event(fields, run.id, run.event, run.uid)
end
