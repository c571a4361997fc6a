"""A Qdrant server or cluster, over gRPC. The only place that knows qdrant-client.

Every call has a deadline, and is tried again a few times when the server cannot be reached: all calls are idempotent. Several
decoders may read one server; one of them writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import structlog
from grpc import StatusCode
from grpc.aio import AioRpcError
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

from langptune.domain import Item
from langptune.errors import ResourceExhausted, Unavailable
from services.decoder.documents import FLAG_WORDS, from_document, point_id, to_document
from services.decoder.index.filter import EVERYTHING, OWN_FIELDS, AnyOf, Between, Condition, FieldKind, ItemFilter, payload_key
from services.decoder.index.layout import LAYOUTS, Layout
from services.decoder.index.port import Entry, Hit, Search, batches, in_stable_order

log = structlog.get_logger(__name__)

AnyT = TypeVar("AnyT")

_REVISION = "revision"  # the payload's one field that is not the item's
_WRITE_BATCH = 256  # points
_SCAN_VECTORS = 256  # points with their vectors: turning more into an array would hold up other threads
_SCAN_BATCH = 1_000  # points
_FIRST_WAIT = 0.1  # seconds between the first try and the second; then twice as long each time
_OPTIMISE_LIMIT = 6 * 3600.0  # seconds that the server gets for a graph
_SCHEMA = {
    "text": models.PayloadSchemaType.KEYWORD,
    "number": models.PayloadSchemaType.FLOAT,
    "flag": models.PayloadSchemaType.KEYWORD,
}
_PASSING = {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.ABORTED, StatusCode.RESOURCE_EXHAUSTED}


@dataclass(frozen=True, slots=True)
class Calls:
    """How the server is called."""

    client: AsyncQdrantClient
    deadline: float = 10.0  # seconds of one try
    tries: int = 4

    async def __call__(self, doing: str, ask: Callable[..., Awaitable[AnyT]], *args: Any, **kwargs: Any) -> AnyT:
        """What `ask(*args, **kwargs)` answers. Raises ResourceExhausted for a full disk, else Unavailable."""
        wait = _FIRST_WAIT
        for left in reversed(range(self.tries)):
            try:
                async with asyncio.timeout(self.deadline):
                    return await ask(*args, **kwargs)
            except (AioRpcError, ApiException, TimeoutError, OSError, ValueError) as error:
                said = f"{type(error).__name__}: {error}"
                if "No space left" in said or "out of disk" in said.lower():
                    raise ResourceExhausted("the item index's disk is full", retry_after=30.0) from error
                if not left or not _passes(error):
                    log.error("index server failed", doing=doing, error=said)
                    message = f"the item index failed to {doing}; the service's log has the rest"
                    raise Unavailable(message, reason="INDEX_FAILED") from error
            await asyncio.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable")


class ServerEngine:
    """Collections of a server whose names begin with `prefix`."""

    def __init__(
        self,
        calls: Calls,
        layout: Layout = LAYOUTS["10k"],
        fields: Mapping[str, FieldKind] = OWN_FIELDS,
        prefix: str = "langptune-",
    ) -> None:
        self._calls = calls
        self._layout = layout
        self._fields = fields
        self._prefix = prefix

    @classmethod
    def connect(cls, url: str, *, grpc_port: int, api_key: str | None, deadline: float, tries: int, **rest: Any) -> ServerEngine:
        """An engine at the address `url`; nothing is sent yet."""
        client = AsyncQdrantClient(
            url,
            grpc_port=grpc_port,
            prefer_grpc=True,
            api_key=api_key,
            timeout=max(1, round(deadline)),
            check_compatibility=False,  # it would ask the server at once
        )
        return cls(Calls(client, deadline, tries), **rest)

    async def open(self, name: str, dimensions: int) -> ServerCollection:
        """See the port."""
        called = self._called(name)
        doing = f"open the index {name}"
        client = self._calls.client
        if not await self._calls(doing, client.collection_exists, called):
            await self._calls(doing, client.create_collection, called, **_config(dimensions, self._layout))
        schema = (await self._calls(doing, client.get_collection, called)).payload_schema
        keys = {payload_key(field, kind): _SCHEMA[kind] for field, kind in self._fields.items() if dimensions}
        for key in sorted(keys.keys() - schema.keys()):
            await self._calls(doing, client.create_payload_index, called, key, keys[key])
        return ServerCollection(self._calls, called, self._layout)

    async def drop(self, name: str) -> None:
        await self._calls("delete an index", self._calls.client.delete_collection, self._called(name))

    async def close(self) -> None:
        await self._calls.client.close()

    def _called(self, name: str) -> str:
        """Qdrant forbids the colon, and ids the tilde."""
        return self._prefix + name.replace(":", "~")


class ServerCollection:
    """One collection of the server."""

    def __init__(self, calls: Calls, name: str, layout: Layout) -> None:
        self._calls = calls
        self._layout = layout
        self._client = calls.client
        self._name = name

    async def put(self, entries: Sequence[Entry]) -> None:
        for batch in batches(entries, _WRITE_BATCH):
            points = [_point(entry) for entry in batch]
            await self._calls("write items", self._client.upsert, self._name, points, wait=True)

    async def delete(self, item_ids: Sequence[str]) -> None:
        for batch in batches(item_ids, _SCAN_BATCH):
            chosen = models.PointIdsList(points=[str(point_id(item_id)) for item_id in batch])
            await self._calls("delete items", self._client.delete, self._name, chosen, wait=True)

    async def flush(self) -> None:
        """Nothing to do: the server has logged a write when it answers."""

    async def get(self, item_ids: Sequence[str]) -> list[Item]:
        found: dict[str, Item] = {}
        for batch in batches(item_ids, _SCAN_BATCH):
            wanted = [str(point_id(item_id)) for item_id in batch]
            records = await self._calls("read items", self._client.retrieve, self._name, wanted)
            found.update((item.item_id, item) for item in (from_document(record.payload or {}) for record in records))
        return [found[item_id] for item_id in item_ids if item_id in found]

    async def search(self, search: Search) -> list[Hit]:
        async def fetch(size: int) -> list[Hit]:
            answer = await self._calls(
                "search",
                self._client.query_points,
                self._name,
                query=search.vector.tolist(),
                limit=size,
                query_filter=_filter(search.where, search.exclude),
                search_params=_params(search.exact, self._layout),
                with_payload=True,
                with_vectors=search.with_vectors,
            )
            return [_hit(point) for point in answer.points]

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
        answer = await self._calls("count items", self._client.count, self._name, exact=True)
        return int(answer.count)

    async def unindexed(self) -> int:
        """See the port: the server sees to its graph by itself."""
        return 0

    async def optimise(self) -> None:
        async with asyncio.timeout(_OPTIMISE_LIMIT):
            while True:
                found = await self._calls("read the index's state", self._client.get_collection, self._name)
                if found.status == models.CollectionStatus.GREEN:
                    return
                await asyncio.sleep(1.0)

    async def close(self) -> None:
        """Nothing is held."""

    async def _scan(self, *, where: ItemFilter = EVERYTHING, vectors: bool = False) -> AsyncIterator[list[Any]]:
        offset = None
        while True:
            records, offset = await self._calls(
                "read items",
                self._client.scroll,
                self._name,
                offset=offset,
                limit=_SCAN_VECTORS if vectors else _SCAN_BATCH,
                scroll_filter=_filter(where),
                with_payload=["item_id", _REVISION],
                with_vectors=vectors,
            )
            if records:
                yield records
            if offset is None:
                return


def _passes(error: Exception) -> bool:
    """Whether another try may do better."""
    if isinstance(error, AioRpcError):
        return error.code() in _PASSING
    return isinstance(error, ResponseHandlingException | TimeoutError | OSError)


def _config(dimensions: int, layout: Layout) -> dict[str, Any]:
    spread = {
        "shard_number": layout.shards,
        "replication_factor": layout.replicas,
        "write_consistency_factor": layout.write_consistency,
        "on_disk_payload": layout.on_disk,
    }
    if dimensions == 0:
        return {**spread, "vectors_config": {}}
    return {
        **spread,
        "vectors_config": models.VectorParams(
            size=dimensions, distance=models.Distance.DOT, on_disk=layout.on_disk, datatype=models.Datatype(layout.vectors)
        ),
        "hnsw_config": models.HnswConfigDiff(m=layout.graph_degree if layout.graph else 0, ef_construct=layout.graph_effort),
        "quantization_config": _quantisation(layout),
    }


def _quantisation(layout: Layout) -> models.QuantizationConfig | None:
    if layout.quantisation == "int8":
        return models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True))
    if layout.quantisation == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None


def _params(exact: bool, layout: Layout) -> models.SearchParams:
    codes = models.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=2.0)
    return models.SearchParams(exact=exact, hnsw_ef=layout.graph_reach, quantization=codes)


def _point(entry: Entry) -> models.PointStruct:
    payload = {**to_document(entry.item), _REVISION: entry.revision}
    vector: Any = {} if entry.vector is None else entry.vector.tolist()
    return models.PointStruct(id=str(point_id(entry.item.item_id)), vector=vector, payload=payload)


def _hit(point: models.ScoredPoint) -> Hit:
    vector = None if point.vector is None else np.array(point.vector, dtype=np.float32)
    return Hit(from_document(point.payload or {}), float(point.score), vector)


def _filter(where: ItemFilter, exclude: Set[str] = frozenset()) -> models.Filter | None:
    hidden = [models.HasIdCondition(has_id=[str(point_id(item_id)) for item_id in exclude])] if exclude else []
    if not where and not hidden:
        return None
    return models.Filter(must=[*map(_condition, where.all)], must_not=[*map(_condition, where.none), *hidden])


def _condition(condition: Condition) -> models.FieldCondition:
    if isinstance(condition, Between):
        span = models.Range(gte=condition.low, lte=condition.high)
        return models.FieldCondition(key=payload_key(condition.field, "number"), range=span)
    if isinstance(condition, AnyOf):
        match = models.MatchAny(any=list(condition.values))
        return models.FieldCondition(key=payload_key(condition.field, "text"), match=match)
    match = models.MatchAny(any=[FLAG_WORDS[condition.value]])
    return models.FieldCondition(key=payload_key(condition.field, "flag"), match=match)
