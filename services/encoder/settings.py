"""The settings of the encoder service. Read without importing torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from langptune.settings import ServiceSettings, WeightsSettings


class EncoderSettings(ServiceSettings, WeightsSettings):
    """Environment variables LANGPTUNE_ENCODER_PORT and so on."""

    encoder_port: int = Field(50052, ge=1, le=65_535, description="port to listen on")
    encoder_metrics_port: int = Field(
        0, ge=0, le=65_535, description="port of the Prometheus metrics (/metrics over HTTP); 0: none are served"
    )
    encoder_engine: Literal["transformers", "tgi"] = Field(
        "transformers", description="what runs the model: this process, or text-generation-inference servers (docs/tgi.md)"
    )
    encoder_tgi_urls: str = Field(
        "http://127.0.0.1:8080", description="addresses of the TGI servers, separated by commas; each serves one version"
    )
    encoder_tgi_timeout: float = Field(120.0, gt=0, le=3_600, description="seconds that a TGI server gets for one text")
    encoder_max_new_tokens: int = Field(
        512, ge=1, le=4_096, description="limit of a profile's length, in tokens, where a request names none"
    )
    encoder_temperature: float = Field(1.0, ge=0, le=2, description="temperature where a request names none; 0 is greedy")
    encoder_prompt_tokens: int = Field(
        1_024, ge=16, le=131_072, description="limit of a prompt, in tokens; never over three quarters of the model's context"
    )
    encoder_resident_versions: int = Field(4, ge=1, le=64, description="weights versions that are held in memory at once")
    encoder_max_pending: int = Field(64, ge=1, le=10_000, description="calls that may run or wait at once; more are refused")
    encoder_retry_after: float = Field(1.0, ge=0.01, le=600, description="seconds that a refused caller is told to wait")
    encoder_batch_rows: int = Field(128, ge=1, le=4_096, description="profiles that are written at once, over all versions")
    encoder_batch_tokens: int = Field(
        262_144, ge=1_024, description="tokens (prompts and limits of length) written at once; bounds the key-value caches"
    )
    encoder_device: str = Field("cpu", description='where the model runs: "cpu", "cuda", "cuda:1", ...')
    encoder_dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the weights")
    torch_threads: int = Field(1, ge=1, le=256, description="CPU threads of one tensor operation; too many are slow")
