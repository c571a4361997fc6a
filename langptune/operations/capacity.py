"""How much hardware a number of people and items needs: plain arithmetic over unit costs, each with where it comes from.

"measured" costs are held by a test against the real thing (tests/unit/operations/test_capacity.py); "exact" ones follow from the
layout; "assumed" ones are a GPU's, which nobody has measured here: put your own in their place. Left out: money, networks, what
training needs (a job's plan tells it: `langptune train start --dry-run`), and Kubernetes' own overhead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from langptune.errors import InvalidArgument

_DAY = 86_400.0
_GIB = float(1 << 30)


@dataclass(frozen=True, slots=True)
class Demand:
    """What is to be served."""

    users: int
    items: int
    profiles_per_day: float  # written by the language model
    rankings_per_second: float  # in the busiest hour


@dataclass(frozen=True, slots=True)
class Costs:
    """Unit costs. SOURCES says where each comes from."""

    profile_tokens: float = 300.0  # tokens that the model writes for one profile
    encoder_tokens_per_second: float = 2_000.0  # written by one GPU with a 2B model in bf16
    embed_texts_per_second: float = 200.0  # item texts embedded by one GPU with a 335M embedder
    rankings_per_decoder: float = 200.0  # per second, by one decoder replica, vectors of profiles cached
    peak: float = 3.0  # busiest hour over the mean of the day
    load: float = 0.6  # share of a rate that is planned with
    dimensions: float = 1_024.0  # of a vector
    document_bytes: float = 1_500.0  # an item's payload in Qdrant
    versions: float = 3.0  # decoder versions in memory: live, the one before, a candidate
    interactions_per_user: float = 50.0
    interaction_bytes: float = 240.0  # Redis, with a review of 60 characters
    revisions_per_user: float = 5.0
    revision_bytes: float = 1_600.0  # Redis, of a text of 1,200 characters
    user_bytes: float = 2_800.0  # Redis, beside these: keys, and the copy of the newest revision
    item_bytes: float = 180.0  # Python objects of a decoder, per item of the catalogue
    item_version_bytes: float = 150.0  # the same, per item and version
    decoder_gib: float = 3.0  # of a decoder with an empty catalogue: the embedder in float32, and torch
    redis_gib: float = 64.0  # the largest Redis that one wants to run and to restart

    def with_values(self, given: Mapping[str, float]) -> Costs:
        """Some put in the place of ours. Raises InvalidArgument for an unknown name, and what is not above 0."""
        known = {field.name for field in fields(self)}
        for name, value in given.items():
            if name not in known:
                raise InvalidArgument("cost", f"{name!r} is none; these are: {', '.join(sorted(known))}")
            if not (math.isfinite(value) and value > 0):
                raise InvalidArgument(f"cost.{name}", "must be above 0")
        return replace(self, **given)


SOURCES: Mapping[str, str] = {
    "profile_tokens": "assumed: of at most 512",
    "encoder_tokens_per_second": "assumed: a 24 GB GPU under TGI, many at once; not measured here",
    "embed_texts_per_second": "assumed: the same GPU, texts of 200 tokens; not measured here",
    "rankings_per_decoder": "assumed: benchmarks.decoder saw 250 on one busy core with 10,000 items",
    "peak": "assumed",
    "load": "assumed",
    "dimensions": "exact: mxbai-embed-large-v1",
    "document_bytes": "assumed: a description of 1,000 characters",
    "versions": "exact: what a publish keeps",
    "interactions_per_user": "assumed",
    "interaction_bytes": "measured",
    "revisions_per_user": "assumed",
    "revision_bytes": "measured",
    "user_bytes": "measured",
    "item_bytes": "measured",
    "item_version_bytes": "measured",
    "decoder_gib": "assumed: 335M parameters in float32, and as much again",
    "redis_gib": "assumed",
}


@dataclass(frozen=True, slots=True)
class IndexSize:
    """A value of LANGPTUNE_DECODER_SIZE as far as size depends on it (services/decoder/index/layout.py)."""

    name: str
    up_to: float  # items
    shards: int
    replicas: int
    number_bytes: int  # of a vector's number, in Qdrant and in the matrix
    codes_in_memory: bool  # int8 codes in memory and vectors on disk, else the vectors in memory
    graph_degree: int  # 0: no graph


INDEX_SIZES = (
    IndexSize("10k", 20_000, 1, 1, 4, False, 0),
    IndexSize("1m", 5_000_000, 2, 1, 2, False, 16),
    IndexSize("100m", math.inf, 12, 2, 2, True, 16),
)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a demand needs. Memory and disk in GiB."""

    encoder_gpus: int
    decoders: int
    decoder_gib: float  # of each
    index_size: str
    qdrant_shards: int
    qdrant_replicas: int
    qdrant_gib: float  # memory of all nodes together
    qdrant_disk_gib: float
    redis_gib: float
    redis_fits: bool  # one Redis holds it; the gateway knows no more than one
    embed_hours: float  # the whole catalogue on one GPU: what a new decoder version takes, divided by the GPUs it gets
    refresh_days: float  # every user's profile anew on these encoder GPUs


def capacity(demand: Demand, costs: Costs) -> Capacity:
    """Raises InvalidArgument for a demand that is not above 0."""
    for field in fields(demand):
        if not getattr(demand, field.name) > 0:
            raise InvalidArgument(field.name, "must be above 0")
    size = next(each for each in INDEX_SIZES if demand.items <= each.up_to)
    profiles_per_gpu = costs.encoder_tokens_per_second / costs.profile_tokens * costs.load  # per second
    gpus = _whole(demand.profiles_per_day / _DAY * costs.peak / profiles_per_gpu)
    redis = _redis_bytes(demand, costs) / _GIB
    memory, disk = _qdrant_bytes(demand.items, size, costs)
    return Capacity(
        encoder_gpus=gpus,
        decoders=max(2, _whole(demand.rankings_per_second / (costs.rankings_per_decoder * costs.load))),
        decoder_gib=costs.decoder_gib + _decoder_bytes(demand.items, size, costs) / _GIB,
        index_size=size.name,
        qdrant_shards=size.shards,
        qdrant_replicas=size.replicas,
        qdrant_gib=memory / _GIB,
        qdrant_disk_gib=disk / _GIB,
        redis_gib=redis,
        redis_fits=redis <= costs.redis_gib,
        embed_hours=demand.items / (costs.embed_texts_per_second * costs.load) / 3_600,
        refresh_days=demand.users / (gpus * profiles_per_gpu) / _DAY,
    )


def _redis_bytes(demand: Demand, costs: Costs) -> float:
    user = (
        costs.user_bytes + costs.interactions_per_user * costs.interaction_bytes + costs.revisions_per_user * costs.revision_bytes
    )
    return demand.users * user


def _decoder_bytes(items: int, size: IndexSize, costs: Costs) -> float:
    """The matrix of every version, and what Python needs to know each item."""
    vector = costs.dimensions * size.number_bytes
    return items * (costs.item_bytes + costs.versions * (vector + costs.item_version_bytes))


def _qdrant_bytes(items: int, size: IndexSize, costs: Costs) -> tuple[float, float]:
    """(memory, disk) of all copies of all versions: vectors or their int8 codes and two links of 4 bytes per edge of a graph."""
    vector = costs.dimensions * size.number_bytes
    graph = size.graph_degree * 2 * 4
    codes = costs.dimensions if size.codes_in_memory else 0.0
    memory = (codes if size.codes_in_memory else vector) + graph
    disk = vector + codes + graph
    copies = items * size.replicas
    return copies * costs.versions * memory, copies * (costs.versions * disk + (costs.versions + 1) * costs.document_bytes)


def _whole(number: float) -> int:
    return max(1, math.ceil(number))
