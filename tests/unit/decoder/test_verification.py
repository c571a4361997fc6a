"""What a decoder says of a version in memory: complete and exact, or not."""

from __future__ import annotations

import numpy as np
import pytest

from langptune.errors import NotFound
from services.decoder.matrix import Matrix
from services.decoder.verification import verify_version
from tests.unit.decoder.conftest import OpenBench
from tests.unit.decoder.items import random_items


async def test_a_sound_version_is_whole_and_ranks_exactly(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        decoder, (first, second) = bench.decoder, bench.versions
        await decoder.items.store(random_items(40))
        with pytest.raises(NotFound):
            await verify_version(decoder, first)
        async with decoder.versions.use(first), decoder.versions.use(second):
            for version in (first, second):
                found = await verify_version(decoder, version)
                assert (found.items, found.catalogue_items, found.overlap) == (40, 40, 1.0)


async def test_an_index_of_other_vectors_shows(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        decoder, (first, _) = bench.decoder, bench.versions
        await decoder.items.store(random_items(60))
        async with decoder.versions.use(first) as version:
            vectors = np.random.default_rng(0).normal(size=(60, version.dimensions)).astype(np.float32)
            version.matrix = Matrix(version.matrix.item_ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
            found = await verify_version(decoder, first)
            assert found.overlap is not None
            assert found.overlap < 0.5


async def test_an_empty_catalogue_has_nothing_to_rank(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        async with bench.decoder.versions.use(bench.versions[0]):
            found = await verify_version(bench.decoder, bench.versions[0])
        assert (found.items, found.catalogue_items, found.overlap) == (0, 0, None)
