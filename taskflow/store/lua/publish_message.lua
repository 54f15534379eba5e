-- publish_message: add a message to a channel, and tell its readers that there is one. Rule S17.1.
-- Ids count up by one, so that a reader sees where messages are missing. The count outlives the messages: a channel that
-- was silent for a while goes on with the next number. It begins with the time in us, above all numbers that went before.
-- KEYS   1 prefix
--@argv channel topic data run_id uid known_ms:int keep:int keep_ms:int now_ms:int
--       uid: of the message. known_ms: for how long (ms) a repeat is known by it. keep, keep_ms: how many messages
--       the channel keeps, and how long (ms) after the last. run_id: may be empty
-- Reply  the id of the message
-- Repeat is known by the uid, publishes nothing, and gives the id of the first call
local COUNT_KEPT_MS = 86400000
local known = prefix .. 'published:' .. uid
local first = redis.call('GET', known)
if first then return first end
local stream, count = prefix .. 'channel:' .. channel, prefix .. 'channel_count:' .. channel
redis.call('SET', count, string.format('%.0f', now_ms * 1000), 'NX')
local id = string.format('%.0f', redis.call('INCR', count))
redis.call('XADD', stream, 'MAXLEN', keep, id .. '-0', 't', topic, 'd', data, 'a', now_ms, 'r', run_id)
-- Lifetimes only tidy up.
redis.call('PEXPIRE', stream, keep_ms)
redis.call('PEXPIRE', count, keep_ms + COUNT_KEPT_MS)
redis.call('SET', known, id, 'PX', known_ms)
redis.call('PUBLISH', stream, id)
return id
