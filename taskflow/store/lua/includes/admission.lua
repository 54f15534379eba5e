-- admission: decide, for a function that picks among events, whether an event makes a run, joins one, or is skipped (S7.4 to S7.9).
-- `run` and `flow` are as in create_run. All refusals are checked before any limit counts the event, so that an event that is
-- refused for one reason uses nothing of the other limits up.
local function refusal(run, flow, is_immediate, now_ms)
  return flow.idem and idempotency_refusal(run.fn, flow.idem, now_ms)
    or is_immediate and flow.single and singleton_refusal(run.fn, flow.single, run.id)
    or flow.rate and rate_refusal(run.fn, flow.rate, now_ms)
end
-- What the event's record says when no run is to be made: 'skipped: <reason>', or the run that the event went to. nil: make it,
-- with run.fields and, when run.behind, only once that run has ended.
-- `flow` may be false. A rerun is made even while the function is paused, since a person asked for it; it is held then, like other
-- live runs (S10.4).
local function admit(run, flow, now_ms)
  if is_paused(run.fn) and not run.rerun_of then
    skip_run(run, 'paused', now_ms)
    return 'skipped: paused'
  end
  if not flow then return nil end
  local is_delayed = run.start_at_ms > now_ms
  -- An event with a future time waits alone: a batch starts when it is full, and could not wait for that time.
  local batch = not is_delayed and flow.batch
  local is_immediate = not (is_delayed or batch or flow.debounce)
  local reason = refusal(run, flow, is_immediate, now_ms)
  if reason then
    skip_run(run, reason, now_ms)
    return 'skipped: ' .. reason
  end
  local landed, text
  if flow.debounce then landed, text = join_debounce(run, flow, now_ms) end
  if batch then landed = join_batch(run, batch, now_ms) end
  if flow.idem then note_idempotency(flow.idem, landed or run.id, now_ms) end
  if landed then return text or landed end
  if flow.single then
    run.fields = run.fields or {}
    for _, part in ipairs({'single', flow.single[1], 'single_mode', flow.single[2]}) do run.fields[#run.fields + 1] = part end
    if is_immediate then
      run.behind = enter_singleton(flow.single, run.id, now_ms)
      if run.behind then
        run.fields[#run.fields + 1] = 'behind'
        run.fields[#run.fields + 1] = run.behind
      end
    end
  end
  if flow.cancels then
    run.fields = run.fields or {}
    run.fields[#run.fields + 1] = 'cancels'
    run.fields[#run.fields + 1] = add_cancels(run.id, flow.cancels, run.seq, now_ms)
  end
  return nil
end
