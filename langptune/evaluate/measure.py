"""Profiles from the encoder, exact ranks from the decoder: the scores of one pair of versions, user by user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np
from google.protobuf.message import Message

from langptune.client import Versions
from langptune.convert import history_to_proto
from langptune.domain import Session
from langptune.errors import InvalidArgument
from langptune.evaluate.baselines import excluded_items
from langptune.evaluate.scores import Scores
from langptune.rpc import open_channel
from langptune.rpc.tls import Tls
from langptune.v1 import decoder_pb2, decoder_pb2_grpc, encoder_pb2, encoder_pb2_grpc

OnProgress = Callable[[str, int, int], None]  # (phase, done, total), in texts
HISTORIES_PER_CALL = 32
QUERIES_PER_CALL = 256
BYTES_PER_CALL = 8 << 20  # half of what a service takes
MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How to measure."""

    cutoff: int = 20  # places that count
    samples: int = 4  # profiles per user; the user's score is their mean
    seed: int = 0  # of the sampling; equal seeds give equal profiles for the same version
    profile_source: Literal["profile", "history"] = "profile"  # history: the raw text, NoProfile in the paper
    domain: str = ""  # noun of the prompt; the service's default if empty
    max_new_tokens: int = 0  # the service's default if 0
    call_timeout: float = 600.0  # seconds for each call

    def __post_init__(self) -> None:
        for field, value, high in (("cutoff", self.cutoff, 1_000), ("samples", self.samples, 64)):
            if not 1 <= value <= high:
                raise InvalidArgument(field, f"must be 1 to {high:,}, not {value:,}")


@dataclass(frozen=True)
class Measured:
    """What was found, and the texts that it was found with."""

    scores: Scores
    texts: tuple[tuple[str, ...], ...]  # [users][samples]; empty where histories stand for profiles
    catalogue_size: int  # items that were ranked, before exclusions
    truncated: int  # texts whose end, or histories whose oldest part, the embedder did not read
    profile_tokens: float  # per profile; 0.0 where histories stand for profiles


class Evaluator:
    """Connections to one encoder and one decoder, by address."""

    def __init__(self, encoder: str, decoder: str, options: EvaluationOptions | None = None, *, tls: Tls | None = None) -> None:
        self.options = options or EvaluationOptions()
        self._encoder_address = encoder
        self._decoder_address = decoder
        self._tls = tls

    async def __aenter__(self) -> Self:
        addresses = (self._encoder_address, self._decoder_address)
        self._channels: list[Any] = [open_channel(address, tls=self._tls) for address in addresses]
        self._encoder = encoder_pb2_grpc.EncoderServiceStub(self._channels[0])
        self._decoder = decoder_pb2_grpc.DecoderServiceStub(self._channels[1])
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for channel in self._channels:
            await channel.close()

    async def measure(
        self,
        versions: Versions,
        sessions: Sequence[Session],
        on_progress: OnProgress = lambda phase, done, total: None,
    ) -> Measured:
        """The scores of `versions` on the users of `sessions`, which must not be empty. Raises what the services raise."""
        if not sessions:
            raise InvalidArgument("sessions", "there is nobody to measure on")
        texts: list[tuple[str, ...]]
        if self.options.profile_source == "history":
            texts, tokens = [("",)] * len(sessions), 0.0  # the decoder fits the histories to its embedder
        else:
            texts, tokens = await self._write(versions.encoder_version, sessions, on_progress)
        return await self._rank(versions.decoder_version, sessions, texts, tokens, on_progress)

    async def _write(
        self, version: str, sessions: Sequence[Session], on_progress: OnProgress
    ) -> tuple[list[tuple[str, ...]], float]:
        options = self.options
        texts: list[tuple[str, ...]] = [()] * len(sessions)
        tokens = done = 0
        histories = [history_to_proto(session.history) for session in sessions]
        for number, (first, part) in enumerate(_calls(histories, HISTORIES_PER_CALL)):
            request = encoder_pb2.SampleRolloutsRequest(
                histories=part,
                samples_per_history=options.samples,
                encoder_version=version,
                options=encoder_pb2.GenerationOptions(max_new_tokens=options.max_new_tokens, seed=_seed(options.seed, number)),
                domain=options.domain,
            )
            async for response in self._encoder.SampleRollouts(request, timeout=options.call_timeout):
                texts[first + response.history_index] = tuple(rollout.text for rollout in response.rollouts)
                tokens += sum(len(rollout.token_ids) for rollout in response.rollouts)
                done += 1
                on_progress("profiles", done, len(sessions))
        return texts, tokens / (len(sessions) * options.samples)

    async def _rank(
        self,
        version: str,
        sessions: Sequence[Session],
        texts: Sequence[tuple[str, ...]],
        tokens: float,
        on_progress: OnProgress,
    ) -> Measured:
        queries = [
            decoder_pb2.TargetQuery(
                text=text,
                history=history_to_proto(session.history) if self.options.profile_source == "history" else None,
                target_item_ids=session.target_item_ids,
                exclude_item_ids=excluded_items(session),
            )
            for session, samples in zip(sessions, texts, strict=True)
            for text in samples
        ]
        found: list[decoder_pb2.TargetRanks] = []
        catalogue_size = 0
        for _, part in _calls(queries, QUERIES_PER_CALL):
            request = decoder_pb2.RankTargetsRequest(queries=part, decoder_version=version, cutoff=self.options.cutoff)
            response = await self._decoder.RankTargets(request, timeout=self.options.call_timeout)
            found += response.results
            catalogue_size = response.catalogue_size
            on_progress("ranks", len(found), len(queries))
        table = np.array([(ranks.ndcg, ranks.recall, ranks.mrr) for ranks in found])  # [users * samples, 3]
        means = table.reshape(len(sessions), -1, 3).mean(axis=1)
        return Measured(
            scores=Scores.of([session.user_id for session in sessions], [tuple(row) for row in means.tolist()]),
            texts=tuple(texts),
            catalogue_size=catalogue_size,
            truncated=sum(ranks.truncated for ranks in found),
            profile_tokens=tokens,
        )


def _calls(messages: Sequence[MessageT], count: int) -> Iterator[tuple[int, list[MessageT]]]:
    """Neighbours together, at most `count` and about BYTES_PER_CALL of them; each with the place of its first."""
    first, size = 0, 0
    for at, message in enumerate(messages):
        size += message.ByteSize()
        if at > first and (at - first == count or size > BYTES_PER_CALL):
            yield first, list(messages[first:at])
            first, size = at, message.ByteSize()
    yield first, list(messages[first:])


def _seed(seed: int, call: int) -> int:
    """A seed of its own for each call."""
    return int(np.random.SeedSequence([seed, call]).generate_state(1, np.uint64)[0])
