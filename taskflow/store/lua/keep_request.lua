-- keep_request: what a request that its client may repeat makes: the uid of the first request with its key. Rule S14.2.
-- KEYS   1 prefix
--@argv key fingerprint uid
--       key: of the client and its Idempotency-Key. fingerprint: of what is asked. uid: for what
--       the request makes, if it is the first
-- Reply  {uid, fingerprint} of the first request with this key
-- Repeat gives those of the first call
local KEPT_MS = 3600000
local request = prefix .. 'request:' .. key
redis.call('SET', request, uid .. SEP .. fingerprint, 'NX', 'PX', KEPT_MS)
return {string.match(redis.call('GET', request), '^(.-)' .. SEP .. '(.*)$')}
