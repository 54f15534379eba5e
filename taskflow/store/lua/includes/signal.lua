-- signal: let a wait take the name of its signal. At most one run of an app waits for a name (S3.4).
-- op.signal is app SEP name. A second wait for the name fails, or with op.replaces the first wait does.
local function signal_error(op, kind, what, run_id)
  local name = string.match(op.signal, SEP .. '(.*)$')
  return {name = kind, message = "signal '" .. name .. "' " .. what .. ' run ' .. run_id, stack = ''}
end
local function take_signal(run_id, step_key, op, now_ms)
  local holder = redis.call('HGET', prefix .. 'signals', op.signal)
  if holder then
    local other_id, other_key = string.match(holder, '^(.-)' .. SEP .. '(.*)$')
    local packed = redis.call('HGET', steps_key(other_id), other_key)
    if packed and is_pending(cmsgpack.unpack(packed)) then
      if not op.replaces then
        op.state, op.due, op.ended = 'failed', nil, now_ms
        op.error = signal_error(op, 'SignalConflict', 'is waited for already, by', other_id)
        return false
      end
      local error = signal_error(op, 'SignalReplaced', 'is waited for by another run now,', run_id)
      resolve(other_id, other_key, {error = error}, now_ms)
    end
  end
  redis.call('HSET', prefix .. 'signals', op.signal, run_id .. SEP .. step_key)
  return true
end
