"""The decoder's metrics, each defined in docs/operations.md. Sizes and counts are read at a scrape, from where they are kept.

The label `version` has one value per version in memory, so at most `decoder_max_resident_versions` and what is being loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from services.decoder.decoder import Decoder
    from services.decoder.resident import ResidentVersion

_VERSION = ["version"]

_EMBED_TEXTS = Histogram(
    "langptune_decoder_embed_texts",
    "Texts of one batch of the embedder.",
    ["of"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
EMBED_QUERIES, EMBED_ITEMS = _EMBED_TEXTS.labels("queries"), _EMBED_TEXTS.labels("items")


def state(decoder: Decoder | None) -> Iterator[Metric]:
    """What is in memory now; nothing before the catalogue is open."""
    if decoder is None:
        return
    yield GaugeMetricFamily("langptune_decoder_catalogue_items", "Items of the catalogue.", value=len(decoder.catalogue))
    resident = decoder.versions.resident()
    yield from _sizes(resident)
    yield from _cache(resident)
    yield from _loads(decoder)


def _sizes(resident: list[ResidentVersion]) -> Iterator[Metric]:
    items = GaugeMetricFamily("langptune_decoder_index_items", "Items of a version's index and matrix.", labels=_VERSION)
    size = GaugeMetricFamily("langptune_decoder_matrix_bytes", "Memory that a version's vectors take.", labels=_VERSION)
    for found in resident:
        items.add_metric([found.version], len(found.matrix))
        size.add_metric([found.version], found.matrix.nbytes)
    yield from (items, size)


def _cache(resident: list[ResidentVersion]) -> Iterator[Metric]:
    hits = CounterMetricFamily("langptune_decoder_query_cache_hits", "Queries whose vector was in the cache.", labels=_VERSION)
    misses = CounterMetricFamily("langptune_decoder_query_cache_misses", "Queries whose vector was not.", labels=_VERSION)
    for found in resident:
        hits.add_metric([found.version], found.queries.counts.hits)
        misses.add_metric([found.version], found.queries.counts.misses)
    yield from (hits, misses)


def _loads(decoder: Decoder) -> Iterator[Metric]:
    done = GaugeMetricFamily(
        "langptune_decoder_load_embedded_items", "Items that a running load has in its index.", labels=_VERSION
    )
    total = GaugeMetricFamily(
        "langptune_decoder_load_items", "Items that a running load is to have in its index.", labels=_VERSION
    )
    for version, progress in decoder.versions.loading().items():
        done.add_metric([version], progress.embedded)
        total.add_metric([version], progress.total)
    yield from (done, total)
