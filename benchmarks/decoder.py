"""The decoder at catalogue scale: a real decoder process, held against the bare engine, numpy, and argsort-and-compare.

    python -m benchmarks.decoder --json build/decoder/results.json            # 10,000 and 100,000 items
    python -m benchmarks.decoder --items 1000000 --json build/decoder/1m.json

Items are generated with clustered vectors (decoder_world.py). They are imported over RPC; then Rank is timed with a warm cache of
queries, in turns with the bare engine, called directly on a copy of the very same collection in this process. One thread a
process on both sides. The last part imports and ranks the real catalogue movie-critics, where its files are present.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.decoder_world import World, item_id
from benchmarks.real_input import data_folder, minilm_folder
from langptune.errors import NotFound
from langptune.local.process import Child, free_port
from langptune.rpc import open_channel
from langptune.v1 import common_pb2, decoder_pb2, decoder_pb2_grpc
from langptune.weights import Manifest, WeightsStore
from services.decoder.matrix import Matrix, TargetSet

K = 10
IN_FLIGHT = (1, 8, 64)
_SLAB = 16_384  # items of one matrix product of the plain side
CALL_TIMEOUT = 3_600.0  # seconds; an import or a build is one call


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    items: int
    queries: int = 64  # distinct texts, all in the cache when the clock starts
    rounds: int = 10  # turns of RPC and bare engine
    calls: int = 30  # of each in a turn
    turns_end: float = 45.0  # seconds after which no further turn begins: a million items need them
    target_queries: int = 128
    home: Path = Path("build/decoder")


async def run(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """All figures for one size of catalogue."""
    world = World(plan.items)
    home = plan.home / f"generated-{plan.items}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    model = world.save_model(home / "model")
    results: dict[str, Any] = {"items": plan.items, "dimensions": world.dimensions}
    async with decoder_process(home, model) as (stub, child):
        version = (await stub.ListDecoderVersions(decoder_pb2.ListDecoderVersionsRequest())).base_decoder_version
        empty = resident_bytes(child.pid)
        seconds = await import_items(stub, world.messages(), plan.items, say)
        results["import_items_per_second"] = plan.items / seconds
        results["bytes_per_item"] = (resident_bytes(child.pid) - empty) / plan.items
        results["build_seconds"] = await build(stub, home, model, version)
        say(f"{plan.items:,} items: imported in {seconds:.0f} s, second version built in {results['build_seconds']:.0f} s")
        vectors = world.vectors()
        texts, queries = world.queries(plan.queries)
        bare = BareEngine(home / "data" / f"version-{version}", home / "bare")
        results |= await rank_figures(plan, stub, version, texts, queries, bare, say)
        results |= await recall_figures(stub, version, texts, queries, vectors, bare)
        results |= await target_figures(plan, world, vectors, stub, version, say)
    shutil.rmtree(home)
    return results


@asynccontextmanager
async def decoder_process(home: Path, model: Path) -> AsyncIterator[tuple[Any, Child]]:
    """`python -m services.decoder` on its own data in `home`; a stub for it, and the process."""
    port = free_port()
    environment = {
        **os.environ,
        "LANGPTUNE_DECODER_PORT": str(port),
        "LANGPTUNE_DECODER_DATA": str(home / "data"),
        "LANGPTUNE_WEIGHTS_URI": str(home / "weights"),
        "LANGPTUNE_WEIGHTS_CACHE": str(home / "cache"),
        "LANGPTUNE_EMBEDDING_MODEL": str(model),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    child = Child("decoder", [sys.executable, "-m", "services.decoder"], home / "decoder.log", environment)
    channel = open_channel(f"127.0.0.1:{port}", timeout=CALL_TIMEOUT)
    try:
        await child.start()
        await channel.ready(300.0)
        stub_channel: Any = channel
        yield decoder_pb2_grpc.DecoderServiceStub(stub_channel), child
    finally:
        await channel.close()
        await child.stop(60.0)


async def import_items(stub: Any, batches: Iterable[list[common_pb2.Item]], total: int, say: Callable[[str], None]) -> float:
    """Seconds from the first item sent to the last one durable."""

    async def requests() -> AsyncIterator[decoder_pb2.ImportItemsRequest]:
        sent = 0
        for batch in batches:
            yield decoder_pb2.ImportItemsRequest(items=batch)
            before, sent = sent, sent + len(batch)
            if before // 50_000 != sent // 50_000:
                say(f"  {sent:,} of {total:,} items sent")

    started = time.perf_counter()
    await stub.ImportItems(requests())
    return time.perf_counter() - started


async def build(stub: Any, home: Path, model: Path, base: str) -> float:
    """Seconds until a further version, built from the stored items beside the live one, can be used."""
    store = WeightsStore(str(home / "weights"), home / "own-cache")
    version = await asyncio.to_thread(store.add, model, Manifest(version="second", kind="decoder", base_model=str(model)))
    started = time.perf_counter()
    async for _ in stub.LoadDecoderVersion(decoder_pb2.LoadDecoderVersionRequest(decoder_version=version.version)):
        pass
    seconds = time.perf_counter() - started
    await stub.UnloadDecoderVersion(decoder_pb2.UnloadDecoderVersionRequest(decoder_version=version.version))
    return seconds


class BareEngine:
    """The engine without us: a copy of the collection, its search called directly, payload included as in Rank."""

    def __init__(self, collection: Path, copy: Path) -> None:
        shutil.copytree(collection, copy)
        self._shard = qdrant.EdgeShard.load(str(copy))

    def search(self, vector: list[float], k: int = K, *, exact: bool = True) -> list[str]:
        request = qdrant.SearchRequest(
            query=qdrant.Query.Nearest(vector), limit=k, params=qdrant.SearchParams(exact=exact), with_payload=True
        )
        return [(point.payload or {})["item_id"] for point in self._shard.search(request)]


async def rank_figures(
    plan: Plan,
    stub: Any,
    version: str,
    texts: Sequence[str],
    queries: NDArray[np.float32],
    bare: BareEngine,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Latencies, in milliseconds, and calls per second of Rank and of the bare engine, turn by turn.

    With one in flight, a call that asks for next to nothing takes its turn, too: what any call to another process costs.
    """
    requests = [decoder_pb2.RankRequest(text=text, decoder_version=version, k=K) for text in texts]
    lists = [query.tolist() for query in queries]

    async def rank(at: int) -> None:
        await stub.Rank(requests[at % len(requests)])

    async def empty(_: int) -> None:
        await stub.ListDecoderVersions(decoder_pb2.ListDecoderVersionsRequest())

    for at in range(len(requests)):
        await rank(at)  # fills the cache
        bare.search(lists[at])
    figures: dict[str, Any] = {}
    for width in IN_FLIGHT:
        with ThreadPoolExecutor(width) as pool:

            async def search(at: int, pool: ThreadPoolExecutor | None = None if width == 1 else pool) -> None:
                vector = lists[at % len(lists)]
                if pool is None:
                    bare.search(vector)  # nothing between the clock and the engine
                else:
                    await asyncio.get_running_loop().run_in_executor(pool, bare.search, vector)

            ours, engine, nothing = Timings(), Timings(), Timings()
            began = time.perf_counter()
            for turn in range(plan.rounds):
                if turn and time.perf_counter() - began > plan.turns_end:
                    break
                await ours.measure(rank, plan.calls, width)
                await engine.measure(search, plan.calls, width)
                if width == 1:
                    await nothing.measure(empty, plan.calls, width)
        if width == 1:
            figures["empty_call"] = nothing.figures()
            beyond = ours.percentile(50) - nothing.percentile(50)
            figures["rank_p50_beyond_empty_call_over_engine"] = beyond / engine.percentile(50)
        figures[f"rank_{width}_in_flight"] = ours.figures()
        figures[f"engine_{width}_in_flight"] = engine.figures()
        figures[f"rank_p50_over_engine_{width}"] = ours.percentile(50) / engine.percentile(50)
        say(f"  {width:>2} in flight: Rank p50 {ours.percentile(50):.2f} ms, engine {engine.percentile(50):.2f} ms")
    figures["rank_p50_over_engine"] = figures["rank_p50_over_engine_1"]
    return figures


class Timings:
    """Calls, some at a time, with the time that each took."""

    def __init__(self) -> None:
        self._milliseconds: list[float] = []
        self._seconds = 0.0

    async def measure(self, call: Callable[[int], Awaitable[None]], calls: int, width: int) -> None:
        """`calls` calls (at least `width`), `width` in flight."""
        places = iter(range(max(calls, 2 * width)))

        async def one_after_another() -> None:
            for at in places:
                started = time.perf_counter()
                await call(at)
                self._milliseconds.append(1e3 * (time.perf_counter() - started))

        started = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(width)))
        self._seconds += time.perf_counter() - started

    def percentile(self, share: float) -> float:
        return float(np.percentile(self._milliseconds, share))

    def figures(self) -> dict[str, float]:
        names = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99}
        return {name: self.percentile(share) for name, share in names.items()} | {
            "calls": len(self._milliseconds),
            "calls_per_second": len(self._milliseconds) / self._seconds,
        }


async def recall_figures(
    stub: Any,
    version: str,
    texts: Sequence[str],
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    bare: BareEngine,
) -> dict[str, float]:
    """Share of the ten best by brute force that are found: by the approximate path of the engine, and by Rank."""
    approximate, ranked, milliseconds = [], [], []
    for text, query in zip(texts, queries, strict=True):
        started = time.perf_counter()
        similarities = vectors @ query
        best = np.argpartition(-similarities, K)[:K]
        best = best[np.argsort(-similarities[best])]
        milliseconds.append(1e3 * (time.perf_counter() - started))
        truth = {item_id(int(at)) for at in best}
        answer = await stub.Rank(decoder_pb2.RankRequest(text=text, decoder_version=version, k=K))
        ranked.append(len(truth & {place.item.item_id for place in answer.items}) / K)
        approximate.append(len(truth & set(bare.search(query.tolist(), exact=False))) / K)
    return {
        "recall_at_10": float(np.mean(approximate)),
        "rank_recall_at_10": float(np.mean(ranked)),
        "numpy_brute_force_p50_ms": float(np.median(milliseconds)),
    }


async def target_figures(
    plan: Plan, world: World, vectors: NDArray[np.float32], stub: Any, version: str, say: Callable[[str], None]
) -> dict[str, float]:
    """RankTargets against the research code's way on the same vectors: sort everything, look where the target came.

    `target_ranks_ratio` compares what comes after each side's own matrix product; `..._with_product` all of it.
    """
    texts, queries = World(world.items, world.dimensions, world.seed + 1).queries(plan.target_queries)
    targets = np.random.default_rng(5).integers(0, world.items, plan.target_queries)
    matrix = Matrix([item_id(at) for at in range(world.items)], vectors)
    wanted = [TargetSet([int(target)], []) for target in targets]
    ranks = np.array(matrix.ranks(queries, wanted))[:, 0]
    counting = fastest(lambda: matrix.ranks(queries, wanted))
    our_product = fastest(lambda: consume(slab @ queries.T for _, slab in matrix.slabs()))
    product = fastest(lambda: consume(queries @ vectors[at : at + _SLAB].T for at in range(0, world.items, _SLAB)))
    sorting = 0.0
    agree = True
    for start in range(0, plan.target_queries, 16):  # so that the sorted side needs no more memory than it must
        part = slice(start, start + 16)
        similarities = queries[part] @ vectors.T
        began = time.perf_counter()
        places = argsort_and_compare(similarities, targets[part])
        sorting += time.perf_counter() - began
        agree &= bool((np.abs(ranks[part] - places) <= 1).all())  # sorted by float32, equal similarities in any order
    request = decoder_pb2.RankTargetsRequest(decoder_version=version)
    for text, target in zip(texts, targets, strict=True):
        request.queries.append(decoder_pb2.TargetQuery(text=text, target_item_ids=[item_id(int(target))]))
    began = time.perf_counter()
    await stub.RankTargets(request)
    rpc = time.perf_counter() - began
    say(f"  {plan.target_queries} ranks: product {product:.2f} s and sort {sorting:.2f} s; ours, both in one, {counting:.2f} s")
    return {
        "target_ranks_ratio": sorting / max(counting - our_product, 0.02 * counting),
        "target_ranks_ratio_with_product": (product + sorting) / counting,
        "target_ranks_seconds": counting,
        "target_ranks_rpc_seconds": rpc,
        "target_ranks_agree": float(agree),
    }


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of at least three runs, which go on for a second at least."""
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < 1.0:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def consume(products: Iterable[NDArray[np.float32]]) -> None:
    """Make each, and let it go."""
    for _ in products:
        pass


def argsort_and_compare(similarities: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks [queries] from 1, by a full sort [queries, items] and a comparison of every place with the target."""
    order = np.argsort(-similarities, axis=1)
    found: NDArray[np.int64] = 1 + (order == targets[:, None]).argmax(axis=1)
    return found


async def real_catalogue(home: Path, say: Callable[[str], None]) -> dict[str, float] | None:
    """Import and rank rate of a real catalogue with a real embedder; None without its files."""
    metadata = data_folder() / "movie-critics" / "meta.jsonl.gz"
    try:
        model = minilm_folder()
    except NotFound:
        return None
    if not metadata.exists():
        return None
    shutil.rmtree(home, ignore_errors=True)
    items = list(real_items(metadata))
    async with decoder_process(home, model) as (stub, _):
        version = (await stub.ListDecoderVersions(decoder_pb2.ListDecoderVersionsRequest())).base_decoder_version
        batches = (items[start : start + 100] for start in range(0, len(items), 100))
        seconds = await import_items(stub, batches, len(items), say)
        cold, warm = Timings(), Timings()

        async def rank(at: int) -> None:
            text = f"They like films such as {items[at].title}."
            await stub.Rank(decoder_pb2.RankRequest(text=text, decoder_version=version, k=K))

        await cold.measure(rank, 100, 1)
        await warm.measure(rank, 100, 1)
    shutil.rmtree(home)
    say(f"movie-critics: {len(items):,} items in {seconds:.0f} s")
    return {
        "items": len(items),
        "import_items_per_second": len(items) / seconds,
        "rank_cold_p50_ms": cold.percentile(50),
        "rank_warm_p50_ms": warm.percentile(50),
    }


def real_items(metadata: Path) -> Iterator[common_pb2.Item]:
    """The items of a raw metadata file that have a title."""
    with gzip.open(metadata, "rt") as lines:
        for raw in map(json.loads, lines):
            if raw["title"]:
                yield common_pb2.Item(
                    item_id=raw["parent_asin"],
                    title=raw["title"],
                    description=" ".join(raw["description"] or []),
                    categories=raw["categories"] or [],
                    average_rating=raw["average_rating"],
                )


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children, files that are mapped in included."""
    own = Path(f"/proc/{pid}")
    pages = int((own / "statm").read_text().split()[1])
    children = (own / "task" / str(pid) / "children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident_bytes(int(child)) for child in children)


async def run_all(sizes: Sequence[int], plan: Plan, say: Callable[[str], None], *, with_real: bool) -> dict[str, Any]:
    """Every size, then the real catalogue; the keys of the largest size stand on top as well."""
    runs = []
    for items in sizes:
        runs.append(await run(replace(plan, items=items), say))
    real = await real_catalogue(plan.home / "real", say) if with_real else None
    return {**runs[-1], "runs": runs, "real": real}


def main() -> None:
    """Parse the command line, run, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--items", type=int, action="append", help="size of the catalogue, repeatable (default 10,000 and 100,000)"
    )
    parser.add_argument("--quick", action="store_true", help="2,000 items and few calls: does it run?")
    parser.add_argument("--json", type=Path, default=Path("build/decoder/results.json"), help="where the results go")
    arguments = parser.parse_args()
    plan = Plan(0, rounds=2, calls=10, target_queries=16) if arguments.quick else Plan(0)
    sizes = arguments.items or ([2_000] if arguments.quick else [10_000, 100_000])
    with threadpool_limits(1):  # as the decoder process
        results = asyncio.run(run_all(sizes, plan, _say, with_real=not arguments.quick))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    for name in ("rank_p50_over_engine", "target_ranks_ratio", "recall_at_10"):
        _say(f"{name} {results[name]:.3f}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
