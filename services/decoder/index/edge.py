"""The embedded engine: the real Qdrant in this process (qdrant-edge-py), one shard folder per collection.

The only place that knows qdrant-edge. It never calls `optimize`, which holds the interpreter for seconds to minutes, so search
is a full scan (3-6 ms at 10,000 items). A folder has one opener at a time; a lock file sees to it. Every update goes through the
shard's write-ahead log. The engine maps its files into memory and dies of SIGBUS on a full disk, so free space is checked first.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant
import structlog
from numpy.typing import NDArray

from langptune.domain import Item
from langptune.errors import FailedPrecondition, ResourceExhausted, Unavailable
from services.decoder.documents import from_document, point_id, to_document
from services.decoder.index.port import Entry, Hit, batches, in_stable_order

log = structlog.get_logger(__name__)

_REVISION = "revision"  # the payload's one field that is not the item's
_WRITE_BATCH = 1_000  # points
_SCAN_BATCH = 5_000  # points


class EdgeEngine:
    """Collections below `folder`. Raises FailedPrecondition when another process uses it or it cannot be made."""

    def __init__(self, folder: str | Path, min_free_disk: int = 0) -> None:
        self._folder = Path(folder)
        self._min_free_disk = min_free_disk
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise FailedPrecondition(f"the folder {folder} cannot be used: {error.strerror}", reason="DATA_FOLDER") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise FailedPrecondition(f"another decoder uses the folder {folder}", reason="DATA_FOLDER_IN_USE") from None

    def open(self, name: str, dimensions: int) -> EdgeCollection:
        path = self._folder / name
        with _engine_errors(f"open the index {name}"):
            if not path.is_dir():
                self._create(path, dimensions)
            shard = qdrant.EdgeShard.load(str(path))
        return EdgeCollection(shard, path, self._min_free_disk)

    def drop(self, name: str) -> None:
        path = self._folder / name
        if path.is_dir():
            shutil.rmtree(path.with_name(f"{name}~dropped"), ignore_errors=True)
            doomed = path.rename(path.with_name(f"{name}~dropped"))
            shutil.rmtree(doomed)

    def close(self) -> None:
        self._lock.close()

    def _create(self, path: Path, dimensions: int) -> None:
        """Under another name first: a folder by the right name is complete."""
        require_free_disk(path.parent, self._min_free_disk)
        partial = path.with_name(f"{path.name}~partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        qdrant.EdgeShard.create(str(partial), _config(dimensions)).close()
        partial.rename(path)


class EdgeCollection:
    """One open shard."""

    def __init__(self, shard: qdrant.EdgeShard, path: Path, min_free_disk: int) -> None:
        self._shard = shard
        self._path = path
        self._min_free_disk = min_free_disk

    def put(self, entries: Sequence[Entry]) -> None:
        require_free_disk(self._path, self._min_free_disk)
        with _engine_errors("write items"):
            for batch in batches(entries, _WRITE_BATCH):
                self._shard.update(qdrant.UpdateOperation.upsert_points([_point(entry) for entry in batch]))

    def flush(self) -> None:
        with _engine_errors("write items"):
            self._shard.flush()

    def get(self, item_ids: Sequence[str]) -> list[Item]:
        with _engine_errors("read items"):
            records = self._shard.retrieve([point_id(item_id) for item_id in item_ids], True, False)
        found = {item.item_id: item for item in (from_document(record.payload or {}) for record in records)}
        return [found[item_id] for item_id in item_ids if item_id in found]

    def search(self, query: NDArray[np.float32], limit: int, exclude: Set[str]) -> list[Hit]:
        hidden = qdrant.Filter(must_not=[qdrant.HasIdCondition({point_id(item_id) for item_id in exclude})]) if exclude else None

        def fetch(size: int) -> list[Hit]:
            request = qdrant.SearchRequest(
                query=qdrant.Query.Nearest(query.tolist()),
                limit=size,
                filter=hidden,
                params=qdrant.SearchParams(exact=True),
                with_payload=True,
            )
            return [Hit(from_document(point.payload or {}), float(point.score)) for point in self._shard.search(request)]

        with _engine_errors("search"):
            return in_stable_order(fetch, limit)

    def revisions(self) -> dict[str, str]:
        return {record.payload["item_id"]: record.payload[_REVISION] for record in self._scan(vectors=False)}

    def vectors(self) -> tuple[list[str], NDArray[np.float32]]:
        records = list(self._scan(vectors=True))
        if not records:
            return [], np.zeros((0, 0), dtype=np.float32)
        return [record.payload["item_id"] for record in records], np.array([r.vector for r in records], dtype=np.float32)

    def count(self) -> int:
        with _engine_errors("count items"):
            return int(self._shard.count(qdrant.CountRequest(exact=True)))

    def close(self) -> None:
        with _engine_errors("close the index"):
            self._shard.close()

    def _scan(self, *, vectors: bool) -> Iterator[Any]:
        offset = None
        while True:
            request = qdrant.ScrollRequest(
                offset=offset, limit=_SCAN_BATCH, with_payload=["item_id", _REVISION], with_vector=vectors
            )
            with _engine_errors("read items"):
                records, offset = self._shard.scroll(request)
            yield from records
            if offset is None:
                return


def require_free_disk(folder: Path, least: int) -> None:
    """Raises ResourceExhausted when the disk of `folder` has less than `least` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < least:
        message = f"the decoder's disk has {free >> 20:,} MiB left and {least >> 20:,} MiB must stay free; nothing was written"
        raise ResourceExhausted(message, retry_after=30.0)


def _config(dimensions: int) -> qdrant.EdgeConfig:
    if dimensions == 0:  # the engine wants some vector: a sparse one that no point has
        return qdrant.EdgeConfig(sparse_vectors={"none": qdrant.EdgeSparseVectorParams()})
    return qdrant.EdgeConfig(vectors=qdrant.EdgeVectorParams(size=dimensions, distance=qdrant.Distance.Dot))


def _point(entry: Entry) -> qdrant.Point:
    payload = {**to_document(entry.item), _REVISION: entry.revision}
    return qdrant.Point(point_id(entry.item.item_id), {} if entry.vector is None else entry.vector.tolist(), payload)


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
