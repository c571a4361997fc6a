"""The refresh queue's keys in Redis, and each of its moves as one script. What the keys hold is said in the queue beside it."""

from __future__ import annotations

from langptune.convert import check_id

STREAM = "langptune:refresh-queue"
DELAYED = "langptune:refresh-delayed"
DEAD = "langptune:refresh-dead"
STATE = "langptune:refresh:"

# For the scripts below and for that which records interactions: queue a user who is not queued.
ENQUEUE = """
local function enqueue(stream, state, user)
  if redis.call('HEXISTS', state, 'job') == 0 then
    redis.call('HSET', state, 'job', redis.call('XADD', stream, '*', 'user', user))
  end
end
"""
_DROP = """
local function drop(id)
  redis.call('XACK', KEYS[1], 'gateways', id)
  redis.call('XDEL', KEYS[1], id)
end
"""
# KEYS: stream, state. ARGV: id. Returns which attempt it is; 0 for an entry that is the user's no more.
BEGIN = f"""{_DROP}
if redis.call('HGET', KEYS[2], 'job') ~= ARGV[1] then
  drop(ARGV[1])
  return 0
end
return redis.call('HINCRBY', KEYS[2], 'attempts', 1)
"""
# KEYS: stream. ARGV: id, consumer. Returns whether the entry is that consumer's still; if so, its lease begins anew.
RENEW = """
local held = redis.call('XPENDING', KEYS[1], 'gateways', ARGV[1], ARGV[1], 1)
if #held == 0 or held[1][2] ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], 'gateways', ARGV[2], 0, ARGV[1], 'JUSTID')
return 1
"""
# KEYS: stream, state, delayed, dead. ARGV: user, less interactions seen, how many new ones are enough (0: never).
SETTLE = f"""{ENQUEUE}{_DROP}
local job = redis.call('HGET', KEYS[2], 'job')
if job and string.find(job, '-') then drop(job) end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[2], 'job', 'attempts', 'code', 'message')
local fresh = redis.call('HINCRBY', KEYS[2], 'fresh', ARGV[2])
if fresh <= 0 then redis.call('HDEL', KEYS[2], 'fresh') end
if tonumber(ARGV[3]) > 0 and fresh >= tonumber(ARGV[3]) then enqueue(KEYS[1], KEYS[2], ARGV[1]) end
"""
# KEYS: stream, state, delayed or dead. ARGV: id, user, which of the two, moment, code, message.
FAIL = f"""{_DROP}
drop(ARGV[1])
if redis.call('HGET', KEYS[2], 'job') ~= ARGV[1] then return end
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
redis.call('HSET', KEYS[2], 'job', ARGV[3], 'code', ARGV[5], 'message', ARGV[6])
"""
# KEYS: stream, state. ARGV: id, user.
RELEASE = f"""{ENQUEUE}{_DROP}
drop(ARGV[1])
if redis.call('HGET', KEYS[2], 'job') ~= ARGV[1] then return end
redis.call('HINCRBY', KEYS[2], 'attempts', -1)
redis.call('HDEL', KEYS[2], 'job')
enqueue(KEYS[1], KEYS[2], ARGV[2])
"""
# KEYS: stream, delayed. ARGV: now, prefix of states.
PROMOTE = f"""{ENQUEUE}
for _, user in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[2], user)
  redis.call('HDEL', ARGV[2] .. user, 'job')
  enqueue(KEYS[1], ARGV[2] .. user, user)
end
"""
# KEYS: stream. ARGV: consumer.
LEAVE = """
if #redis.call('XPENDING', KEYS[1], 'gateways', '-', '+', 1, ARGV[1]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'gateways', ARGV[1])
end
"""
# KEYS: stream, dead. ARGV: prefix of states, users. Returns how many were dead.
REPLAY = f"""{ENQUEUE}
local replayed = 0
for at = 2, #ARGV do
  if redis.call('ZREM', KEYS[2], ARGV[at]) == 1 then
    redis.call('HDEL', ARGV[1] .. ARGV[at], 'job', 'attempts', 'code', 'message')
    enqueue(KEYS[1], ARGV[1] .. ARGV[at], ARGV[at])
    replayed = replayed + 1
  end
end
return replayed
"""


def state_key(user_id: str) -> str:
    """What the queue knows of a user. Raises InvalidArgument for a bad user id."""
    return STATE + check_id("user_id", user_id)
