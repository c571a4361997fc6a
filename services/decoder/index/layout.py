"""How a version's collection is laid out, by the size of the catalogue it is meant for. Numbers only; the engines read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CatalogueSize = Literal["10k", "1m", "100m"]
VectorFormat = Literal["float32", "float16"]
Quantisation = Literal["none", "int8", "binary"]


@dataclass(frozen=True, slots=True)
class Layout:
    """One collection's shape; the first three are for a Qdrant server only, which spreads a collection over its nodes."""

    shards: int  # parts of the collection; fixed once it is created
    replicas: int  # copies of each part
    write_consistency: int  # copies that must have a write before it is acknowledged
    vectors: VectorFormat  # of the index and of the matrix alike, so that both questions read the same numbers
    quantisation: Quantisation  # short codes beside the vectors that find candidates; scores are of the vectors themselves
    on_disk: bool  # vectors and payloads are read from disk, the codes stay in memory
    graph: bool  # an HNSW graph for approximate search; without one every search is a full scan, and exact
    graph_from: int = 1_000  # KiB of vectors; fewer are scanned faster than searched by graph
    graph_degree: int = 16  # edges of a node (m)
    graph_effort: int = 200  # candidates while building (ef_construct)
    graph_reach: int = 512  # candidates while searching (ef)

    def rounded(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vector as the collection will hold it."""
        return vector.astype(self.vectors).astype(np.float32)


LAYOUTS: Mapping[CatalogueSize, Layout] = {
    # A full scan takes milliseconds, so no graph; one node.
    "10k": Layout(1, 1, 1, vectors="float32", quantisation="none", on_disk=False, graph=False),
    # 1,024 float16 dimensions are 2 GiB: in memory on one node, two parts so that it can grow to a second.
    "1m": Layout(2, 1, 1, vectors="float16", quantisation="none", on_disk=False, graph=True),
    # 200 GiB of vectors on disk, 100 GiB of int8 codes in memory over twelve parts (on 2, 3, 4, 6 or 12 nodes), each twice.
    "100m": Layout(12, 2, 2, vectors="float16", quantisation="int8", on_disk=True, graph=True),
}
