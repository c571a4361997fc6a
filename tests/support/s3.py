"""An S3 server in this process (moto), for what talks to object stores over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from langptune.local.process import free_port

_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def running_s3(bucket: str) -> Iterator[str]:
    """A server with one empty bucket; yields the bucket's URI. fsspec finds the server through the environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            host, port = server.get_host_and_port()
            for name, value in (_KEYS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
                patch.setenv(name, value)
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
            yield f"s3://{bucket}"
    finally:
        server.stop()
