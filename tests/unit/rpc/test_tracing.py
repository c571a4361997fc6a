"""Tracing that is not wanted costs nothing, and one that cannot be had is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from langptune.errors import FailedPrecondition
from langptune.rpc import tracing

UNTRACED = """
import sys
from langptune.rpc.tracing import client_interceptors, server_interceptors, trace_id, tracing
with tracing("encoder", ""):
    assert (list(client_interceptors()), server_interceptors(), trace_id()) == ([], [], "")
ours = ("opentelemetry.exporter", "opentelemetry.instrumentation")  # redis imports other parts for itself
assert not [name for name in sys.modules if name.startswith(ours)]
"""


def test_without_an_endpoint_nothing_is_imported() -> None:
    subprocess.run([sys.executable, "-c", UNTRACED], check=True, timeout=60)


def test_without_the_packages_the_start_fails_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)  # what import finds of a package that is not installed
    with pytest.raises(FailedPrecondition, match=r"pip install '.\[tracing\]'"), tracing.tracing("encoder", "http://127.0.0.1:1"):
        pass
