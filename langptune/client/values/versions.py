"""The versions behind a text or a ranking."""

from __future__ import annotations

from dataclasses import dataclass

from langptune.v1 import common_pb2


@dataclass(frozen=True, slots=True)
class Versions:
    """The pair of weights versions that made something, and the release that pins it."""

    encoder_version: str = ""
    decoder_version: str = ""
    release_id: str = ""


def versions_from_proto(message: common_pb2.Versions) -> Versions:
    return Versions(message.encoder_version, message.decoder_version, message.release_id)
