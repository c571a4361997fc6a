"""Everything on one machine: the services, and a real Redis, as child processes of one supervisor.

`LocalSystem` is the door. What production uses in its place (Kubernetes) shares nothing with this package but the settings.
"""

from langptune.local.redis import EmbeddedRedis, find_redis_server, given_redis_url

__all__ = ["EmbeddedRedis", "find_redis_server", "given_redis_url"]
