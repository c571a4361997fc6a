"""The embedded engine: the real Qdrant in this process (qdrant-edge-py), one shard folder per collection.

The only place that knows qdrant-edge. A shard has one opener at a time; a lock file sees to it. Every update goes through the
shard's write-ahead log. `optimise` holds the interpreter for seconds to hours: for a process of its own only. Without a graph a
search is a full scan (2 ms at 10,000 items), which several queries share. The engine maps its files into memory and dies of
SIGBUS on a full disk, so free space is checked first.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import qdrant_edge as qdrant
import structlog
from numpy.typing import NDArray

from langptune.domain import Item
from langptune.errors import FailedPrecondition, ResourceExhausted, Unavailable
from services.decoder.documents import FLAG_WORDS, from_document, point_id, to_document
from services.decoder.index.filter import EVERYTHING, OWN_FIELDS, AnyOf, Between, Condition, FieldKind, ItemFilter, payload_key
from services.decoder.index.layout import LAYOUTS, Layout
from services.decoder.index.port import Entry, Hit, Search, batches, in_stable_order
from services.decoder.index.rounds import Rounds

log = structlog.get_logger(__name__)

_REVISION = "revision"  # the payload's one field that is not the item's
_WRITE_BATCH = 1_000  # points
_SCAN_VECTORS = 256  # points with their vectors: turning more into an array would hold up other threads
_SCAN_BATCH = 5_000  # points
_SEARCHES = 64  # that share a full scan, which takes half the time of one each; more would hold up those that come next
_LOCK_WAIT = 5.0  # seconds that a process which was told to end gets to let go of a shard
_DATATYPE = {"float32": qdrant.VectorStorageDatatype.Float32, "float16": qdrant.VectorStorageDatatype.Float16}
_SCHEMA = {
    "text": qdrant.PayloadSchemaType.Keyword,
    "number": qdrant.PayloadSchemaType.Float,
    "flag": qdrant.PayloadSchemaType.Keyword,
}


class EdgeEngine:
    """Collections below `folder`. Raises FailedPrecondition when the folder cannot be made."""

    def __init__(
        self,
        folder: str | Path,
        min_free_disk: int = 0,
        layout: Layout = LAYOUTS["10k"],
        fields: Mapping[str, FieldKind] = OWN_FIELDS,
    ) -> None:
        self._folder = Path(folder)
        self._layout = layout
        self._min_free_disk = min_free_disk
        self._fields = fields
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FailedPrecondition(f"the folder {folder} cannot be used: {error.strerror}", reason="DATA_FOLDER") from None

    async def open(self, name: str, dimensions: int) -> EdgeCollection:
        """See the port. Raises FailedPrecondition when another process has it open."""
        lock = await _lock(self._folder / f"{name}.lock")
        try:
            shard = await asyncio.to_thread(self._open, self._folder / name, dimensions)
        except BaseException:
            lock.close()
            raise
        return EdgeCollection(shard, lock, self._folder / name, dimensions, self._layout, self._min_free_disk)

    async def drop(self, name: str) -> None:
        path = self._folder / name
        with await _lock(self._folder / f"{name}.lock"):
            await asyncio.to_thread(_remove, path)
            path.with_name(f"{name}.lock").unlink(missing_ok=True)

    async def close(self) -> None:
        """Nothing is held beside the open collections."""

    def _open(self, path: Path, dimensions: int) -> qdrant.EdgeShard:
        with _engine_errors(f"open the index {path.name}"):
            if not path.is_dir():
                self._create(path, dimensions)
            if not any((path / "segments").iterdir()):  # the engine would take it for a new shard
                raise FileNotFoundError(path / "segments")
            shard = qdrant.EdgeShard.load(str(path), _config(dimensions, self._layout))
            keys = {payload_key(field, kind): _SCHEMA[kind] for field, kind in self._fields.items() if dimensions}
            for key in sorted(keys.keys() - shard.info().payload_schema.keys()):
                shard.update(qdrant.UpdateOperation.create_field_index(key, keys[key]))
            return shard

    def _create(self, path: Path, dimensions: int) -> None:
        """Under another name first: a folder by the right name is complete."""
        require_free_disk(path.parent, self._min_free_disk)
        partial = path.with_name(f"{path.name}~partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        qdrant.EdgeShard.create(str(partial), _config(dimensions, self._layout)).close()
        partial.rename(path)


class EdgeCollection:
    """One open shard. The engine lets other threads run while it works, except where the module's text says so."""

    def __init__(
        self, shard: qdrant.EdgeShard, lock: IO[str], path: Path, dimensions: int, layout: Layout, min_free_disk: int
    ) -> None:
        self._shard = shard
        self._lock = lock
        self._path = path
        self._dimensions = dimensions
        self._layout = layout
        self._min_free_disk = min_free_disk
        alone = Rounds(self._search, at_once=os.cpu_count() or 1, size=1)
        self._rounds = alone if layout.graph else Rounds(self._search, at_once=1, size=_SEARCHES)

    async def put(self, entries: Sequence[Entry]) -> None:
        for batch in batches(entries, _WRITE_BATCH):
            await asyncio.to_thread(self._put, batch)

    async def delete(self, item_ids: Sequence[str]) -> None:
        def delete() -> None:
            with _engine_errors("delete items"):
                self._shard.update(qdrant.UpdateOperation.delete_points([point_id(item_id) for item_id in item_ids]))

        await asyncio.to_thread(delete)

    async def flush(self) -> None:
        with _engine_errors("write items"):
            await asyncio.to_thread(self._shard.flush)

    async def get(self, item_ids: Sequence[str]) -> list[Item]:
        with _engine_errors("read items"):
            wanted: list[qdrant.PointId] = [point_id(item_id) for item_id in item_ids]
            records = await asyncio.to_thread(self._shard.retrieve, wanted, True, False)
        found = {item.item_id: item for item in (from_document(record.payload or {}) for record in records)}
        return [found[item_id] for item_id in item_ids if item_id in found]

    async def search(self, search: Search) -> list[Hit]:
        where = _filter(search.where, search.exclude)
        vector = search.vector.tolist()

        async def fetch(size: int) -> list[Hit]:
            asked = {
                "limit": size,
                "query": qdrant.Query.Nearest(vector),
                "filter": where,
                "params": _params(search.exact, self._layout),
                "with_payload": True,
                "with_vector": search.with_vectors,
            }
            return [_hit(point) for point in await self._rounds(asked)]

        with _engine_errors("search"):
            return await in_stable_order(fetch, search)

    async def matching(self, where: ItemFilter) -> list[str]:
        return [record.payload["item_id"] async for block in self._scan(where=where) for record in block]

    async def revisions(self) -> dict[str, str]:
        return {record.payload["item_id"]: record.payload[_REVISION] async for block in self._scan() for record in block}

    async def vectors(self) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        async for block in self._scan(vectors=True):
            yield (
                [record.payload["item_id"] for record in block],
                np.array([record.vector for record in block], dtype=np.float32),
            )

    async def count(self) -> int:
        with _engine_errors("count items"):
            return int(await asyncio.to_thread(self._shard.count, qdrant.CountRequest(exact=True)))

    async def unindexed(self) -> int:
        if not self._layout.graph:
            return 0
        with _engine_errors("count items"):
            info = await asyncio.to_thread(self._shard.info)
        waiting = max(0, int(info.points_count) - int(info.indexed_vectors_count))
        size = waiting * self._dimensions * np.dtype(self._layout.vectors).itemsize
        return waiting if size > self._layout.graph_from << 10 else 0

    async def optimise(self) -> None:
        """See the port. Needs room for a second copy of the collection while it runs."""
        with _engine_errors("optimise the index"):
            await asyncio.to_thread(self._shard.optimize)

    async def close(self) -> None:
        with _engine_errors("close the index"):
            await asyncio.to_thread(self._shard.close)
        self._lock.close()

    def _search(self, asked: Sequence[dict[str, Any]]) -> list[list[qdrant.ScoredPoint]]:
        if len(asked) == 1:  # planning it as a batch would take a tenth longer
            return [self._shard.search(qdrant.SearchRequest(**asked[0]))]
        return self._shard.query_batch(qdrant.QueryBatchRequest([qdrant.QueryRequest(**each) for each in asked]))

    def _put(self, entries: Sequence[Entry]) -> None:
        require_free_disk(self._path, self._min_free_disk)
        with _engine_errors("write items"):
            self._shard.update(qdrant.UpdateOperation.upsert_points([_point(entry) for entry in entries]))

    async def _scan(self, *, where: ItemFilter = EVERYTHING, vectors: bool = False) -> AsyncIterator[list[Any]]:
        offset = None
        while True:
            request = qdrant.ScrollRequest(
                offset=offset,
                limit=_SCAN_VECTORS if vectors else _SCAN_BATCH,
                filter=_filter(where),
                with_payload=["item_id", _REVISION],
                with_vector=vectors,
            )
            with _engine_errors("read items"):
                records, offset = await asyncio.to_thread(self._shard.scroll, request)
            if records:
                yield records
            if offset is None:
                return


def require_free_disk(folder: Path, least: int) -> None:
    """Raises ResourceExhausted when the disk of `folder` has less than `least` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < least:
        message = f"the decoder's disk has {free >> 20:,} MiB left and {least >> 20:,} MiB must stay free; nothing was written"
        raise ResourceExhausted(message, retry_after=30.0)


def _config(dimensions: int, layout: Layout) -> qdrant.EdgeConfig:
    if dimensions == 0:  # the engine wants some vector: a sparse one that no point has
        return qdrant.EdgeConfig(sparse_vectors={"none": qdrant.EdgeSparseVectorParams()})
    vectors = qdrant.EdgeVectorParams(
        size=dimensions,
        distance=qdrant.Distance.Dot,
        datatype=_DATATYPE[layout.vectors],
        memory=qdrant.Memory.Cold if layout.on_disk else qdrant.Memory.Cached,
    )
    return qdrant.EdgeConfig(
        vectors=vectors,
        hnsw_config=qdrant.HnswIndexConfig(layout.graph_degree, layout.graph_effort, layout.graph_from),
        quantization_config=_quantisation(layout),
        optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=layout.graph_from, default_segment_number=1),
    )


def _quantisation(layout: Layout) -> qdrant.QuantizationConfigType | None:
    if layout.quantisation == "int8":
        return qdrant.ScalarQuantizationConfig(type=qdrant.ScalarType.Int8, memory=qdrant.Memory.Pinned)
    if layout.quantisation == "binary":
        return qdrant.BinaryQuantizationConfig(memory=qdrant.Memory.Pinned)
    return None


def _params(exact: bool, layout: Layout) -> qdrant.SearchParams:
    codes = qdrant.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=2.0)
    return qdrant.SearchParams(exact=exact, hnsw_ef=layout.graph_reach, quantization=codes)


def _point(entry: Entry) -> qdrant.Point:
    payload = {**to_document(entry.item), _REVISION: entry.revision}
    return qdrant.Point(point_id(entry.item.item_id), {} if entry.vector is None else entry.vector.tolist(), payload)


def _hit(point: qdrant.ScoredPoint) -> Hit:
    vector = None if point.vector is None else np.array(point.vector, dtype=np.float32)
    return Hit(from_document(point.payload or {}), float(point.score), vector)


def _filter(where: ItemFilter, exclude: Set[str] = frozenset()) -> qdrant.Filter | None:
    hidden = [qdrant.HasIdCondition({point_id(item_id) for item_id in exclude})] if exclude else []
    if not where and not hidden:
        return None
    return qdrant.Filter(must=[*map(_condition, where.all)], must_not=[*map(_condition, where.none), *hidden])


def _condition(condition: Condition) -> qdrant.FieldCondition:
    if isinstance(condition, Between):
        span = qdrant.RangeFloat(gte=condition.low, lte=condition.high)
        return qdrant.FieldCondition(key=payload_key(condition.field, "number"), range=span)
    if isinstance(condition, AnyOf):
        return qdrant.FieldCondition(key=payload_key(condition.field, "text"), match=qdrant.MatchAny(list(condition.values)))
    match = qdrant.MatchAny([FLAG_WORDS[condition.value]])
    return qdrant.FieldCondition(key=payload_key(condition.field, "flag"), match=match)


async def _lock(path: Path) -> IO[str]:
    """An exclusive lock on the file, for as long as it is open. Raises FailedPrecondition while another process has it."""
    lock = path.open("w")
    loop = asyncio.get_running_loop()
    end = loop.time() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if loop.time() >= end:
                lock.close()
                message = f"another decoder uses the folder {path.parent}"
                raise FailedPrecondition(message, reason="DATA_FOLDER_IN_USE") from None
            await asyncio.sleep(0.05)
        else:
            return lock


def _remove(path: Path) -> None:
    """Under another name first: a folder by the right name is complete."""
    doomed = path.with_name(f"{path.name}~dropped")
    shutil.rmtree(doomed, ignore_errors=True)
    if path.is_dir():
        path.rename(doomed)
        shutil.rmtree(doomed)


@contextmanager
def _engine_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except (ResourceExhausted, FailedPrecondition):
        raise
    except Exception as error:  # the engine raises nothing narrower than Exception
        log.error("index engine failed", doing=doing, error=str(error))
        if "No space left" in str(error):
            raise ResourceExhausted("the decoder's disk is full; nothing was written", retry_after=30.0) from error
        raise Unavailable(f"the item index failed to {doing}; the service's log has the rest", reason="INDEX_FAILED") from error
