"""From proto requests to work for an engine, and back: every check that the comments of encoder.proto promise."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from langptune.convert import check_id, check_number, check_range, check_text, history_from_proto
from langptune.domain import Interaction
from langptune.errors import InvalidArgument
from langptune.text import DEFAULT_DOMAIN
from langptune.v1 import encoder_pb2 as pb
from services.encoder.engines.port import Options, Rollout, RolloutGroup, Work
from services.encoder.settings import EncoderSettings

_REASONS = {"stop": pb.FINISH_REASON_STOP, "length": pb.FINISH_REASON_LENGTH}


def profile_work(request: pb.GenerateProfileRequest, settings: EncoderSettings) -> Work:
    """Raises InvalidArgument."""
    version = check_id("encoder_version", request.encoder_version)
    options = _options(request.options, settings, settings.encoder_temperature)
    return Work(version, [history_from_proto(request.history)], _domain(request.domain), options)


def rollout_work(request: pb.SampleRolloutsRequest, settings: EncoderSettings) -> Work:
    """Raises InvalidArgument, also for a temperature other than 1: log-probs would not be the policy's."""
    version = check_id("encoder_version", request.encoder_version)
    samples = check_range("samples_per_history", request.samples_per_history, 1, 64)
    options = _options(request.options, settings, 1.0)
    if options.temperature != 1.0:
        raise InvalidArgument("options.temperature", f"rollouts are sampled at 1 only, not {options.temperature:g}")
    return Work(version, _histories(request), _domain(request.domain), options, samples)


def profile_response(group: RolloutGroup, version: str) -> pb.GenerateProfileResponse:
    """The one profile of `group`."""
    profile = group.rollouts[0]
    return pb.GenerateProfileResponse(
        text=profile.text,
        encoder_version=version,
        finish_reason=_REASONS[profile.finish_reason],
        profile_tokens=len(profile.token_ids),
        prompt_tokens=len(group.prompt_token_ids),
        coverage=group.coverage,
    )


def stream_response(part: str | RolloutGroup, version: str) -> pb.StreamProfileResponse:
    """A piece of a profile, or the whole."""
    if isinstance(part, str):
        return pb.StreamProfileResponse(piece=part)
    return pb.StreamProfileResponse(profile=profile_response(part, version))


def rollouts_response(group: RolloutGroup, version: str) -> pb.SampleRolloutsResponse:
    """All profiles of `group`."""
    return pb.SampleRolloutsResponse(
        history_index=group.index,
        prompt_token_ids=group.prompt_token_ids,
        rollouts=[_rollout(rollout) for rollout in group.rollouts],
        encoder_version=version,
        coverage=group.coverage,
    )


def _histories(request: pb.SampleRolloutsRequest) -> Sequence[tuple[Interaction, ...]]:
    if not 1 <= len(request.histories) <= 1_024:
        raise InvalidArgument("histories", f"must be 1 to 1,024, not {len(request.histories):,}")
    return [history_from_proto(history, f"histories[{at}]") for at, history in enumerate(request.histories)]


def _options(message: pb.GenerationOptions, settings: EncoderSettings, temperature: float) -> Options:
    if message.HasField("temperature"):
        temperature = check_number("options.temperature", message.temperature, 0.0, 2.0)
    return Options(
        max_new_tokens=check_range("options.max_new_tokens", message.max_new_tokens, 1, 4_096, settings.encoder_max_new_tokens),
        temperature=temperature,
        seed=message.seed if message.HasField("seed") else secrets.randbits(64),
    )


def _domain(value: str) -> str:
    return check_text("domain", value, high=200) or DEFAULT_DOMAIN


def _rollout(rollout: Rollout) -> pb.Rollout:
    return pb.Rollout(
        text=rollout.text,
        token_ids=rollout.token_ids,
        log_probs=rollout.log_probs,
        finish_reason=_REASONS[rollout.finish_reason],
    )
