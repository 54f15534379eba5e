-- cancel_index: the events that cancel a run stand in the index of waits as long as the run lives (S6.1).
-- Member: SEP run_id SEP place; the empty first part tells it from a wait. The run's field `cancels` is the packed list of entries
-- {events, path, token, condition, seq, until_ms}: only an event that came after `seq`, and up to `until_ms`, counts.
--@at limited: flow.cancels
--@at make: if flow.cancels then add_field(run, 'cancels', add_cancels(run.id, flow.cancels, run.seq, now_ms)) end
-- seq: of the event that starts the run, which is not to cancel it; nil when the run comes by no route. Returns the field.
local function cancel_member(run_id, place) return SEP .. run_id .. SEP .. place end
-- seq: of the event that starts the run, which is not to cancel it; nil when it comes by no route. Returns the field.
local function add_cancels(run_id, cancels, seq, made_ms)
  seq = tonumber(seq or redis.call('GET', prefix .. 'seq') or 0)
  for place, each in ipairs(cancels) do
    each.seq, each.until_ms, each.timeout_ms = seq, each.timeout_ms and made_ms + each.timeout_ms, nil
    add_wait(each, cancel_member(run_id, place))
  end
  return cmsgpack.pack(cancels)
end
local function remove_cancels(run_id, field)
  for place, each in ipairs(cmsgpack.unpack(field)) do remove_wait(each, cancel_member(run_id, place)) end
end
