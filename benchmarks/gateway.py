"""The gateway under load: Recommend and Preview at 1, 16 and 64 in flight, where the time goes, how fast a list follows an edit.

    python -m benchmarks.gateway --json build/gateway/results.json [--quick] [--items 10000]

The whole system runs on this machine with the sample world's models. Every Preview is of a text that nobody has sent before, as
when somebody types, so its embedding is never in the decoder's cache; those of saved profiles are, once each has been asked for.

`edit_to_list_p95_ms` is a Preview as the page asks for it, JSON over HTTP, one at a time. `edit_to_list_in_browser_p95_ms` is the
same in Chromium, from the key to the rows on the screen, the page's own pause included; absent where there is no Chromium.
`gateway_overhead_p50_ms` is the median of Recommend less that of the decoder's own Rank of the same text, asked directly and in
turns, both by plain stubs: what the client library adds is the same for every service. `where` comes from the services' logs of
the same calls: milliseconds in the gateway, in the decoder's calls that it waits for (those it makes together count once), and
of its own; the rest of what a caller sees is the wire and the caller itself. The load comes from this process and shares the
cores with what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from langptune.client import Item, LangPTune, NewInteraction
from langptune.local import LocalSettings, LocalSystem
from langptune.rpc import open_channel
from langptune.v1 import decoder_pb2, decoder_pb2_grpc, gateway_pb2, gateway_pb2_grpc
from samples.lexicon import ATTRIBUTES
from samples.world import MAX_ITEMS, make_catalogue

IN_FLIGHT = (1, 16, 64)
_TIMEOUT = 300.0  # seconds
_PARTS = {"Recommend": (("Rank",),), "Preview": (("Rank",), ("RankTargets",))}  # decoder calls one after the other


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Sizes."""

    items: int = 10_000
    users: int = 32
    calls: int = 400  # of each kind at each load
    edits: int = 200
    keys: int = 60  # pressed in the browser


QUICK = {"items": 600, "users": 8, "calls": 48, "edits": 30, "keys": 10}


async def measure(plan: Plan, home: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Start the system below `home`, fill it, load it, and return what was seen."""
    settings = LocalSettings.load(home=home).with_free_ports().model_copy(update={"redis_url": None})
    results: dict[str, Any] = {"plan": dataclasses.asdict(plan), "cores": os.cpu_count()}
    async with LocalSystem(settings, start_deadline=_TIMEOUT) as system:
        async with LangPTune(system.gateway_address, timeout=_TIMEOUT) as client:
            say(f"importing {plan.items:,} items")
            await client.import_items(_films(plan.items))
            texts, users = _texts(), [f"reader-{at}" for at in range(plan.users)]
            profiles = {user: next(texts) for user in users}
            for at, user in enumerate(users):
                await client.record_interactions(user, [NewInteraction(_item_id(at + near), 4.0) for near in range(8)])
                await client.update_profile(user, profiles[user])
                await client.recommend(user)
            results["load"] = await _loads(plan, client, users, texts, say)
            results |= await _overhead(plan, client, settings, users, profiles)
        results |= await _edits(plan, settings.page_url, users[0], texts)
        say("typing in a browser")
        results["edit_to_list_in_browser_p95_ms"] = await _typed(plan, settings.page_url, users[0])
        results["where"] = _where(home / "logs")
    return results


def _films(total: int) -> Iterator[Item]:
    """Films of as many sample worlds as it takes: each has at most MAX_ITEMS titles of its own."""
    for at in range(total):
        seed, place = divmod(at, MAX_ITEMS)
        if place == 0:
            world = make_catalogue(min(MAX_ITEMS, total - at), seed).items
        yield dataclasses.replace(world[place], item_id=_item_id(at))


def _item_id(at: int) -> str:
    return f"film-{at:06d}"


def _texts() -> Iterator[str]:
    """Profiles that differ from one another, without end."""
    rng = np.random.default_rng(0)
    for number in count():
        likes, dislikes = rng.choice(ATTRIBUTES, 3, replace=False), rng.choice(ATTRIBUTES)
        yield f"They like {likes[0]}, {likes[1]} and {likes[2]} films. The viewer avoids {dislikes} stories. Take {number}."


async def _loads(
    plan: Plan, client: LangPTune, users: Sequence[str], texts: Iterator[str], say: Callable[[str], None]
) -> dict[str, Any]:
    async def recommend(at: int) -> None:
        await client.recommend(users[at % len(users)])

    async def preview(at: int) -> None:
        await client.preview(users[at % len(users)], next(texts))

    found: dict[str, Any] = {}
    for name, call in (("Recommend", recommend), ("Preview", preview)):
        await _at_once(call, 16, 16)
        for in_flight in IN_FLIGHT:
            found[f"{name} x{in_flight}"] = figures = await _at_once(call, plan.calls, in_flight)
            say(f"{name} x{in_flight}: {json.dumps(figures)}")
    return found


async def _at_once(call: Callable[[int], Awaitable[None]], calls: int, in_flight: int) -> dict[str, float]:
    """`calls` calls, `in_flight` at any time."""
    numbers = iter(range(calls))
    times: list[float] = []

    async def caller() -> None:
        for number in numbers:
            start = time.perf_counter()
            await call(number)
            times.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return _percentiles(times) | {"per_second": round(calls / (time.perf_counter() - start), 1)}


async def _overhead(
    plan: Plan, client: LangPTune, settings: LocalSettings, users: Sequence[str], profiles: dict[str, str]
) -> dict[str, Any]:
    """Recommend and the decoder's Rank of the same, in turns, each by a stub of its own service."""
    channels: list[Any] = [open_channel(settings.address(service), timeout=_TIMEOUT) for service in ("gateway", "decoder")]
    gateway = gateway_pb2_grpc.RecommendationServiceStub(channels[0])
    decoder = decoder_pb2_grpc.DecoderServiceStub(channels[1])
    version = (await client.get_live_release()).decoder_version
    whole: list[float] = []
    ranked: list[float] = []
    for at in range(plan.calls):
        user = users[at % len(users)]
        seen = [_item_id(at % len(users) + near) for near in range(8)]
        ranking = decoder_pb2.RankRequest(text=profiles[user], decoder_version=version, k=10, exclude_item_ids=seen)
        recommending = gateway_pb2.RecommendRequest(user_id=user, k=10)
        start = time.perf_counter()
        await decoder.Rank(ranking)
        middle = time.perf_counter()
        await gateway.Recommend(recommending)
        ranked.append(middle - start)
        whole.append(time.perf_counter() - middle)
    await asyncio.gather(*(channel.close() for channel in channels))
    return {
        "gateway_overhead_p50_ms": round(_percentiles(whole)["p50_ms"] - _percentiles(ranked)["p50_ms"], 2),
        "turns": {"Recommend": _percentiles(whole), "Rank": _percentiles(ranked)},
    }


async def _edits(plan: Plan, page: str, user: str, texts: Iterator[str]) -> dict[str, Any]:
    """Previews as the page asks for them."""
    times: list[float] = []
    async with httpx.AsyncClient(base_url=page, timeout=_TIMEOUT) as http:
        for at in range(plan.edits + 5):
            start = time.perf_counter()
            answer = await http.post(
                "/langptune.v1.RecommendationService/Preview", json={"userId": user, "text": next(texts), "k": 10}
            )
            answer.raise_for_status()
            if at >= 5:  # warm by then
                times.append(time.perf_counter() - start)
    found = _percentiles(times)
    return {"edit_to_list_p95_ms": found["p95_ms"], "edit_to_list": found}


_WATCH = """() => {
  const items = document.getElementById("items");
  window.lists = [];
  new MutationObserver(() => window.lists.push(performance.now())).observe(items, { childList: true });
  document.addEventListener("input", () => { window.typed = performance.now(); }, true);
}"""


_NEXT = "async (before) => { while (window.lists.length === before) await new Promise(requestAnimationFrame); }"


async def _typed(plan: Plan, page: str, user: str) -> float | None:
    """From a key to the new rows, in Chromium; a key is pressed only when the list of the one before is there."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return None
    from playwright.async_api import async_playwright  # only here: the rest needs no browser

    times: list[float] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        tab = await browser.new_page()
        await tab.goto(f"{page}#{user}")
        await tab.locator("#items .item").first.wait_for()
        await tab.locator("#as-text").click()
        await tab.evaluate(_WATCH)
        await tab.locator("#text").press("End")
        for key in ("western films, desert settings, noir and ghosts; " * 9)[: plan.keys + 3]:
            before = await tab.evaluate("window.lists.length")
            await tab.keyboard.type(key)
            await tab.evaluate(_NEXT, before)
            times.append(await tab.evaluate("window.lists.at(-1) - window.typed") / 1_000)
        await browser.close()
    return _percentiles(times[3:])["p95_ms"]


def _where(logs: Path) -> dict[str, Any]:
    """Medians of the calls that were logged on both sides, in milliseconds."""
    behind: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in _calls(logs / "decoder.log"):
        behind[entry["request_id"]][entry["method"].rsplit("/", 1)[1]].append(entry["seconds"])
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for entry in _calls(logs / "gateway.log"):
        name, called = entry["method"].rsplit("/", 1)[1], behind.get(entry["request_id"])
        if name in _PARTS and called:
            waited = sum(max(called.get(method, [0.0])) for together in _PARTS[name] for method in together)
            rows[name].append((entry["seconds"], waited))
    return {
        name: {
            "in_gateway_ms": _median(whole for whole, _ in seen),
            "in_decoder_ms": _median(waited for _, waited in seen),
            "own_ms": _median(whole - waited for whole, waited in seen),
        }
        for name, seen in rows.items()
    }


def _calls(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text().splitlines():
        if '"event": "call"' in line:
            yield json.loads(line)


def _median(seconds: Any) -> float:
    return round(1_000 * float(np.median(list(seconds))), 2)


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{share}_ms": round(1_000 * float(np.percentile(seconds, share)), 2) for share in (50, 95, 99)}


def main() -> None:
    """Parse the command line, measure, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("build/gateway/results.json"), help="where the results go")
    parser.add_argument("--quick", action="store_true", help="a small catalogue and few calls")
    parser.add_argument("--items", type=int, help="size of the catalogue (10,000)")
    arguments = parser.parse_args()
    plan = Plan(**(QUICK if arguments.quick else {}))
    if arguments.items:
        plan = dataclasses.replace(plan, items=arguments.items)
    with tempfile.TemporaryDirectory(prefix="langptune-gateway-") as home:
        result = asyncio.run(measure(plan, Path(home), lambda line: _write(sys.stderr, line)))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    _write(sys.stdout, json.dumps(result, indent=2))


def _write(stream: Any, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
