"""A real gateway that asks for tokens, with both doors and Redis, and nobody behind it: a call that is let in goes no further."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from langptune.local.process import free_port
from tests.support.processes import RunningService, running_service
from tests.support.redis import running_redis


@dataclass(frozen=True)
class Doors:
    """Where the gateway listens."""

    gateway: RunningService
    http: str  # URL
    environment: dict[str, str]


@contextmanager
def open_doors(folder: Path) -> Iterator[Doors]:
    """Its files are below `folder`."""
    nobody = grpc.server(None)  # answers every call with UNIMPLEMENTED
    behind = f"127.0.0.1:{nobody.add_insecure_port('127.0.0.1:0')}"
    nobody.start()
    http = free_port()
    with running_redis(folder / "redis") as redis_url:
        env = {
            "LANGPTUNE_GATEWAY_AUTH": "jwt",
            "LANGPTUNE_REDIS_URL": redis_url,
            "LANGPTUNE_GATEWAY_HTTP_PORT": str(http),
            **{f"LANGPTUNE_{name}_ADDRESS": behind for name in ("ENCODER", "DECODER", "TRAINER")},
        }
        with running_service("gateway", folder, env) as gateway:
            yield Doors(gateway, f"http://127.0.0.1:{http}", env)
    nobody.stop(None)
