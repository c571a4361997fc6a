"""Settings of the two slots in which the trainer starts text-generation-inference on the weights of a release."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SlotSettings(BaseSettings):
    """docs/tgi.md shows them at work."""

    model_config = SettingsConfigDict(env_prefix="LANGPTUNE_", env_file=".env", extra="ignore", frozen=True)

    tgi_slots: Literal["", "local", "kubernetes"] = Field(
        "",
        description="where the trainer starts TGI on a release's weights: nowhere (empty), two processes, two Deployments",
    )
    tgi_weights_path: str = Field("", description="root of the weights store as TGI sees it; empty: LANGPTUNE_WEIGHTS_URI")
    tgi_command: str = Field(
        "text-generation-launcher --model-id {model} --port {port}", description="what a local slot runs, by the shell's quoting"
    )
    tgi_ports: str = Field("8081,8082", description="ports of the two local slots")
    tgi_folder: str = Field("build/langptune/tgi", description="folder for the local slots' logs and process ids")
    tgi_stop_seconds: float = Field(30.0, ge=0, description="seconds that a local slot gets to end after SIGTERM")
    tgi_deployments: str = Field("tgi-blue,tgi-green", description="the two Deployments of TGI")
    tgi_container: str = Field("tgi", description="name of TGI's container in them")
    tgi_replicas: int = Field(1, ge=1, le=1_000, description="replicas of the Deployment that serves")
