"""One request, one trace: real processes, and a collector that keeps the spans they send."""

from __future__ import annotations

import asyncio
import json

from langptune.client import LangPTune, NewInteraction
from tests.integration.gateway.world import World
from tests.support.otlp import Span


def _child(spans: list[Span], parent: Span, service: str, method: str, *, server: bool) -> Span:
    [found] = [
        span for span in spans if (span.parent, span.service, span.method, span.server) == (parent.span, service, method, server)
    ]
    assert found.trace == parent.trace
    return found


async def test_a_refresh_is_one_trace_over_gateway_encoder_and_decoder(world: World, lp: LangPTune) -> None:
    items = list(world.dataset.items.values())
    await lp.import_items(items)
    await lp.record_interactions("traced", [NewInteraction(item.item_id, 4.0) for item in items[:3]])
    await lp.refresh_profile("traced", seed=1)

    def complete(spans: list[Span]) -> bool:
        roots = [span for span in spans if span.method == "RefreshProfile" and span.server]
        return any(sum(span.trace == root.trace for span in spans) >= 5 for root in roots)

    spans = await asyncio.to_thread(world.collector.wait_for, complete)
    roots = [span for span in spans if span.method == "RefreshProfile"]  # other tests refresh, too; their clients are not traced
    root = next(root for root in roots if sum(span.trace == root.trace for span in spans) >= 5)
    assert (root.service, root.parent, root.server) == ("langptune-gateway", "", True)
    for service, method in (("langptune-encoder", "GenerateProfile"), ("langptune-decoder", "BatchGetItems")):
        asked = _child(spans, root, "langptune-gateway", method, server=False)
        _child(spans, asked, service, method, server=True)
    lines = [json.loads(line) for line in world.encoder.log().splitlines() if line.startswith("{")]
    assert root.trace in [line.get("trace_id") for line in lines if line["event"] == "call"]
    assert not [span for span in spans if span.method in ("Check", "Watch")]


async def test_no_user_id_is_in_a_log(world: World, lp: LangPTune) -> None:
    """Neither of one who has a profile nor of one who has none, in the log of any service."""
    for user in ("traced", "nobody-known"):
        await lp.recommend(user, k=3)
    for log in (world.gateway.log(), world.encoder.log(), world.decoder.log()):
        assert log
        assert "traced" not in log
        assert "nobody-known" not in log
