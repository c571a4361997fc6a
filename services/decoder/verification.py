"""Whether a version in memory ranks as it should, for whoever asks (VerifyDecoderVersion): every item is there, and sampled
rankings are the exact ones. It reports and refuses nothing; what must hold before a version is used is in `soundness`.

The samples are items of the catalogue: an item's text is embedded anew, and ranked by the index and by counting over the whole
matrix. An index that leaves out what is near, and an embedder that is not the one that filled the index, both show.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from langptune.errors import NotFound
from langptune.text import item_text
from services.decoder.decoder import Decoder
from services.decoder.index import Search
from services.decoder.matrix import Matrix, TargetSet
from services.decoder.resident import ResidentVersion

_SAMPLES = 16  # items
_PLACES = 10  # of each ranking


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found."""

    items: int  # in the version's index
    catalogue_items: int
    overlap: float | None  # share of the sampled places that exact ranking confirms; None for an empty catalogue


async def verify_version(decoder: Decoder, version: str) -> Verified:
    """Look at a version in memory. Raises NotFound for one that is not."""
    if version not in (found.version for found in decoder.versions.resident()):
        raise NotFound("decoder version in memory", version)
    async with decoder.versions.use(version) as found:
        async with decoder.versions.writes:  # between two imports: during one, the catalogue is ahead
            matrix, items, catalogue_items = found.matrix, await found.index.count(), len(decoder.catalogue)
        chosen = matrix.item_ids[:: max(1, len(matrix) // _SAMPLES)][:_SAMPLES]
        shares = [await _confirmed(found, matrix, item_text(item), item.item_id) for item in await decoder.catalogue.get(chosen)]
    return Verified(items, catalogue_items, fmean(shares) if shares else None)


async def _confirmed(found: ResidentVersion, matrix: Matrix, text: str, item_id: str) -> float:
    """Of the first places for an item's own text, the share that belongs there; 0.0 if the item itself does not belong there."""
    query = await found.queries.one(text)
    hits = await found.index.search(Search(query.vector, _PLACES, exact=False))
    known = matrix.positions([item_id, *(hit.item.item_id for hit in hits)])  # without what was imported since
    (ranks,) = await asyncio.to_thread(matrix.ranks, np.array([query.vector], dtype=np.float32), [TargetSet(known, [])])
    if ranks[0] > _PLACES:
        return 0.0
    return fmean(rank <= _PLACES for rank in ranks[1:])
