"""Everything on one machine: the services, and a real Redis, as child processes of one supervisor.

`LocalSystem` is the door. What production uses in its place (Kubernetes) shares nothing with this package but the settings.
"""

from langptune.local.redis import EmbeddedRedis
from langptune.local.settings import LocalSettings
from langptune.local.supervisor import LocalSystem, ServiceDied

__all__ = ["EmbeddedRedis", "LocalSettings", "LocalSystem", "ServiceDied"]
