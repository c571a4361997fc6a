"""What the supervisor tells the services is what their settings read."""

from __future__ import annotations

import pytest

from langptune.errors import InvalidArgument
from langptune.local import LocalSettings
from services.decoder.settings import DecoderSettings
from services.encoder.settings import EncoderSettings
from services.trainer.settings import TrainerSettings


def test_every_service_reads_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalSettings.load(home="somewhere", profile_model="a/writer", embedding_model="an/embedder").with_free_ports()
    for name, value in local.environment("redis://127.0.0.1:7/0").items():
        monkeypatch.setenv(name, value)

    encoder, decoder, trainer = EncoderSettings.load(), DecoderSettings.load(), TrainerSettings.load()

    assert (encoder.profile_model, decoder.embedding_model) == ("a/writer", "an/embedder")
    assert encoder.weights_uri == decoder.weights_uri == trainer.weights_uri == str(local.home.absolute() / "weights")
    assert trainer.redis_url.get_secret_value() == "redis://127.0.0.1:7/0"
    assert (encoder.encoder_port, decoder.decoder_port, trainer.trainer_port) == (
        local.encoder_port,
        local.decoder_port,
        local.trainer_port,
    )
    assert trainer.encoder_address == local.address("encoder")


@pytest.mark.parametrize("name", ["REDIS_URL", "LANGPTUNE_REDIS_URL"])
def test_a_given_redis_is_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "redis://elsewhere:6379/1")
    given = LocalSettings.load().redis_url
    assert given is not None
    assert given.get_secret_value() == "redis://elsewhere:6379/1"


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGPTUNE_GATEWAY_PORT", "99999")
    with pytest.raises(InvalidArgument, match=r"gateway_port: .*less than or equal to 65535"):
        LocalSettings.load()
