"""The decoder's settings. Importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from langptune.settings import ServiceSettings, WeightsSettings


class DecoderSettings(ServiceSettings, WeightsSettings):
    """What the decoder service needs to know; `embedding_model` is the base of its first version."""

    decoder_port: int = Field(50053, ge=1, le=65_535, description="port to listen on")
    decoder_data: str = Field("build/langptune/decoder", description="folder of the catalogue and the indexes; one process only")
    decoder_min_free_disk: int = Field(
        256 << 20,
        ge=0,
        description="bytes that must be free on the disk of decoder_data; else imports and builds are refused",
    )
    decoder_filterable_fields: dict[str, Literal["text", "number", "flag"]] = Field(
        {"year": "number"},
        description='item attributes that filters may name, each with its kind, as JSON: {"year": "number", "brand": "text"}',
    )
    decoder_max_resident_versions: int = Field(
        4, ge=1, le=64, description="versions kept in memory; the one used longest ago leaves first, never one in use"
    )
    decoder_device: str = Field("cpu", description="torch device of the embedder: cpu, cuda, cuda:1, mps")
    decoder_dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the embedder")
    torch_threads: int = Field(1, ge=1, le=1_024, description="CPU threads of one torch operation")
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
