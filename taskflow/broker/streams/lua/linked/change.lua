local epoch, commands = ARGV[1], ARGV[2]
local altered, failure = false, nil
for _, command in ipairs(cjson.decode(commands)) do
  local reply = redis.pcall(unpack(command))
  if type(reply) ~= 'table' then
    altered = altered or (reply ~= 0 and reply ~= false)
  elseif reply.ok then
    altered = true
  elseif reply.err and not string.find(reply.err, 'BUSYGROUP', 1, true) then
    failure = failure or reply
  end
end
local version = redis.call('GET', KEYS[1])
if altered or not version then
  local known, number = string.match(version or '', '^(.*)/(%d+)$')
  version = (known or epoch) .. '/' .. ((tonumber(number) or 0) + 1)
  redis.call('SET', KEYS[1], version)
end
return failure or version
