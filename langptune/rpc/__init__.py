"""How a service is served and called: one server set-up, one channel set-up, request ids, logs and typed errors on both sides."""

from langptune.rpc.channel import Channel, open_channel
from langptune.rpc.context import bind_request_id
from langptune.rpc.server import Service, run

__all__ = ["Channel", "Service", "bind_request_id", "open_channel", "run"]
