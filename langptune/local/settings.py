"""What `langptune up` reads from the environment (LANGPTUNE_<NAME>) or a .env file: where things lie and which ports are taken.

Everything else that a service can be told passes through to it untouched.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from langptune.errors import InvalidArgument
from langptune.local.process import free_port

_NO_TLS = ("TLS_CERTIFICATE", "TLS_KEY", "TLS_AUTHORITY", "GATEWAY_TLS_CERTIFICATE", "GATEWAY_TLS_KEY")  # all is on one machine
SERVICES = ("gateway", "encoder", "decoder", "trainer")


class LocalSettings(BaseSettings):
    """A local system: its folder, its ports on 127.0.0.1, its models."""

    model_config = SettingsConfigDict(
        env_prefix="LANGPTUNE_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    home: Path = Field(Path("build/langptune"), description="folder of all state: Redis, item index, weights, jobs, logs")
    gateway_port: int = Field(50051, ge=1, le=65_535, description="port of the gateway")
    encoder_port: int = Field(50052, ge=1, le=65_535, description="port of the encoder")
    decoder_port: int = Field(50053, ge=1, le=65_535, description="port of the decoder")
    trainer_port: int = Field(50054, ge=1, le=65_535, description="port of the trainer")
    gateway_http_port: int = Field(8080, ge=1, le=65_535, description="port of the gateway's page and JSON RPCs")
    redis_port: int = Field(50055, ge=1, le=65_535, description="port of the embedded Redis")
    redis_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("redis_url", "LANGPTUNE_REDIS_URL", "REDIS_URL"),
        description="a Redis to use in place of the embedded one",
    )
    profile_model: str = Field("", description="base model of the profile encoder; empty: the sample world's tiny one")
    embedding_model: str = Field("", description="base model of the embedder; empty: the sample world's tiny one")

    @classmethod
    def load(cls, **given: object) -> Self:
        """The settings, with those of `given` that are not None put first. Raises InvalidArgument naming the setting."""
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # pydantic checks
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidArgument(str(first["loc"][-1]), first["msg"]) from None

    def with_free_ports(self) -> Self:
        """The same on ports that nothing uses."""
        return self.model_copy(update={f"{name}_port": free_port() for name in (*SERVICES, "gateway_http", "redis")})

    def port(self, service: str) -> int:
        """The port of one of SERVICES."""
        ports = dict(zip(SERVICES, (self.gateway_port, self.encoder_port, self.decoder_port, self.trainer_port), strict=True))
        return ports[service]

    def address(self, service: str) -> str:
        """host:port of one of SERVICES."""
        return f"127.0.0.1:{self.port(service)}"

    @property
    def page_url(self) -> str:
        """Where people go."""
        return f"http://127.0.0.1:{self.gateway_http_port}/"

    def environment(self, redis_url: str) -> dict[str, str]:
        """What every service is told."""
        home = self.home.absolute()
        return {
            "LANGPTUNE_HOST": "127.0.0.1",
            "LANGPTUNE_HEALTH_PORT": "0",
            **{f"LANGPTUNE_{name}": "" for name in _NO_TLS},
            "LANGPTUNE_REDIS_URL": redis_url,
            "LANGPTUNE_WEIGHTS_URI": str(home / "weights"),
            "LANGPTUNE_WEIGHTS_CACHE": str(home / "weights-cache"),
            "LANGPTUNE_DECODER_DATA": str(home / "decoder"),
            "LANGPTUNE_JOBS_FOLDER": str(home / "jobs"),
            "LANGPTUNE_PROFILE_MODEL": self.profile_model or sample_model("profile-writer"),
            "LANGPTUNE_EMBEDDING_MODEL": self.embedding_model or sample_model("embedder"),
            "LANGPTUNE_GATEWAY_HTTP_PORT": str(self.gateway_http_port),
            **{f"LANGPTUNE_{service.upper()}_PORT": str(self.port(service)) for service in SERVICES},
            **{f"LANGPTUNE_{service.upper()}_ADDRESS": self.address(service) for service in SERVICES},
        }


def sample_model(name: str) -> str:
    """The folder of one of the sample world's models. Raises InvalidArgument where the samples are not installed."""
    samples = importlib.util.find_spec("samples")
    folder = Path(samples.origin).parent / "models" / name if samples and samples.origin else None
    if folder is None or not folder.is_dir():
        field = {"profile-writer": "profile_model", "embedder": "embedding_model"}[name]
        raise InvalidArgument(
            field, f"no model: set LANGPTUNE_{field.upper()} to a Hugging Face id or folder, or run `make samples`"
        )
    return str(folder)
