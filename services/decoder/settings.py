"""The decoder's settings. Importable without torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, SecretStr

from langptune.settings import ServiceSettings, WeightsSettings
from services.decoder.index.filter import FieldKind
from services.decoder.index.layout import LAYOUTS, CatalogueSize, Layout, Quantisation, VectorFormat


class DecoderSettings(ServiceSettings, WeightsSettings):
    """What the decoder service needs to know; `embedding_model` is the base of its first version."""

    decoder_port: int = Field(50053, ge=1, le=65_535, description="port to listen on")
    decoder_metrics_port: int = Field(
        0, ge=0, le=65_535, description="port of the Prometheus metrics (/metrics over HTTP); 0: none are served"
    )
    decoder_data: str = Field("build/langptune/decoder", description="folder of the catalogue and the indexes; one process only")
    decoder_min_free_disk: int = Field(
        256 << 20,
        ge=0,
        description="bytes that must be free on the disk of decoder_data; else imports and builds are refused",
    )
    decoder_filterable_fields: dict[str, FieldKind] = Field(
        {"year": "number"},
        description='item attributes that filters may name, each with its kind, as JSON: {"year": "number", "brand": "text"}',
    )
    decoder_size: CatalogueSize = Field(
        "10k", description="items that the index is laid out for: 10k (full scan), 1m (graph, float16), 100m (graph, int8, disk)"
    )
    decoder_shards: int | None = Field(None, ge=1, le=1_024, description="server: parts of a collection, not as the size has it")
    decoder_replicas: int | None = Field(None, ge=1, le=16, description="server: copies of each part, not as the size has it")
    decoder_write_consistency: int | None = Field(
        None, ge=1, le=16, description="server: copies that acknowledge a write, not as the size has it"
    )
    decoder_vectors: VectorFormat | None = Field(None, description="number format of vectors, not as the size has it")
    decoder_quantisation: Quantisation | None = Field(None, description="codes that find candidates, not as the size has it")
    decoder_on_disk: bool | None = Field(None, description="whether vectors are read from disk, not as the size has it")
    decoder_graph: bool | None = Field(None, description="whether search is approximate (HNSW), not as the size has it")
    qdrant_url: str = Field("", description="address of a Qdrant server; empty for the engine embedded in the decoder")
    qdrant_grpc_port: int = Field(6334, ge=1, le=65_535, description="port of the Qdrant server's gRPC")
    qdrant_api_key: SecretStr = Field(SecretStr(""), description="key of the Qdrant server; empty for none")
    qdrant_prefix: str = Field("langptune-", description="how the names of our collections begin on the Qdrant server")
    qdrant_timeout: float = Field(10.0, gt=0, le=600, description="deadline of one call to the Qdrant server, in seconds")
    qdrant_tries: int = Field(4, ge=1, le=20, description="times that a call to a Qdrant server that does not answer is made")
    decoder_inline_items: int = Field(
        2_000, ge=0, description="items that a load embeds in the serving process; more are built in a process of their own"
    )
    decoder_build_niceness: int = Field(
        5, ge=0, le=19, description="how far the processes that build versions stand back for others (nice)"
    )
    decoder_build_devices: tuple[str, ...] = Field(
        (),
        description="devices that such a process embeds on, a copy of the model on each, as a JSON list: "
        '["cuda:0", "cuda:1"], or ["cpu", "cpu"] for two cores; empty: decoder_device',
    )
    decoder_max_resident_versions: int = Field(
        4, ge=1, le=64, description="versions kept in memory; the one used longest ago leaves first, never one in use"
    )
    decoder_device: str = Field("cpu", description="torch device of the embedder: cpu, cuda, cuda:1, mps")
    decoder_dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the embedder")
    torch_threads: int = Field(1, ge=1, le=1_024, description="CPU threads of one torch operation or numpy product")
    embedder_max_tokens: int = Field(
        512,
        ge=8,
        le=131_072,
        description="tokens of a text that are read, special ones included; the model's own limit if lower",
    )
    embedder_over_length: Literal["truncate", "drop"] = Field(
        "truncate",
        description="a text to rank by that is over the limit: read what fits (of a history the newest entries), or refuse it",
    )
    embedder_query_prompt: bool = Field(
        False, description="put the model's own query prompt before every text to rank by (the paper does not)"
    )
    embedder_dimensions: int = Field(
        0, ge=0, le=1 << 16, description="keep the first so many dimensions of a vector (Matryoshka models); 0 for all"
    )
    embed_batch_tokens: int = Field(
        4_096,
        ge=8,
        le=1 << 22,
        description="tokens of one embedding batch, padding included; a query waits for one at most",
    )
    embedding_cache_size: int = Field(4_096, ge=0, description="texts per version whose vectors are kept")

    def layout(self) -> Layout:
        """The size's, with what is set otherwise."""
        chosen = {
            "shards": self.decoder_shards,
            "replicas": self.decoder_replicas,
            "write_consistency": self.decoder_write_consistency,
            "vectors": self.decoder_vectors,
            "quantisation": self.decoder_quantisation,
            "on_disk": self.decoder_on_disk,
            "graph": self.decoder_graph,
        }
        given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        return replace(LAYOUTS[self.decoder_size], **given)
