-- note_progress: store what a run says of its progress. Rule S15.2.
-- KEYS   1 prefix
--@argv child_id run_id fence progress
--       progress: JSON
-- Reply  1, or 0 when another process has the run by now
-- Repeat writes the same. A run that has just ended still takes its last report
local run = redis.call('HMGET', run_key(run_id), 'by', 'fence', 'watched')
if run[1] ~= child_id or run[2] ~= fence then return 0 end
redis.call('HSET', run_key(run_id), 'progress', progress)
if run[3] then tell_watchers(run_id) end
return 1
