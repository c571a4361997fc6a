"""Scrapes of real services, and what docs/operations.md defines, in the same words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

OURS = ("grpc_server_", "langptune_")


def documented(page: str) -> list[str]:
    """The names of all metrics in the tables of docs/operations.md."""
    rows = re.findall(r"^\| (`(?:grpc_server|langptune)_.*?) \|", page, re.M)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def exported_samples(names: Iterable[str]) -> set[str]:
    """What a query may name of these metrics: themselves, and the parts of what may be a histogram."""
    return {name + part for name in names for part in ("", "_bucket", "_sum", "_count")}


def scraped(port: int) -> dict[str, str]:
    """Names of our metrics at 127.0.0.1:`port`, as docs name them (a counter's ends in _total), and their types."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        found = {family.name + {"counter": "_total"}.get(family.type, ""): family.type for family in families}
    return {name: kind for name, kind in found.items() if name.startswith(OURS)}
