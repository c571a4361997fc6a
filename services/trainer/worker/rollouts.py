"""The learning core's RolloutSource over the encoder service's SampleRollouts."""

from __future__ import annotations

from collections.abc import Sequence

from langptune.convert import history_to_proto
from langptune.errors import Internal
from langptune.v1 import encoder_pb2
from services.trainer.learning.ports import History, Rollout, RolloutGroup, Scorable
from services.trainer.patience import patiently
from services.trainer.peers import Peers
from services.trainer.settings import TrainerSettings
from services.trainer.worker.versions import JobVersions

_SEED_STEP = 1_000_003  # between two chunks of one request, so that no two chunks share a seed


class EncoderRollouts:
    """Samples from `version` until `use` publishes other weights."""

    def __init__(self, peers: Peers, versions: JobVersions, settings: TrainerSettings, *, version: str, domain: str) -> None:
        self._peers = peers
        self._versions = versions
        self._settings = settings
        self._parent = version
        self._domain = domain
        self.version = version

    async def use(self, policy: Scorable) -> str:
        """Publish the policy's weights and sample from them from now on."""
        self.version = await self._versions.publish("encoder", policy, self._parent, policy.golden)
        return self.version

    async def sample(self, histories: Sequence[History], *, samples: int, max_new_tokens: int, seed: int) -> list[RolloutGroup]:
        """In chunks of `rollout_chunk` histories, each a call with its own deadline, repeated whole when it is cut off."""
        groups: list[RolloutGroup] = []
        size = self._settings.rollout_chunk
        for start in range(0, len(histories), size):
            request = encoder_pb2.SampleRolloutsRequest(
                histories=[history_to_proto(history) for history in histories[start : start + size]],
                samples_per_history=samples,
                encoder_version=self.version,
                options=encoder_pb2.GenerationOptions(
                    max_new_tokens=max_new_tokens, temperature=1.0, seed=seed + start // size * _SEED_STEP
                ),
                domain=self._domain,
            )
            groups += await self._chunk(request)
        return groups

    async def _chunk(self, request: encoder_pb2.SampleRolloutsRequest) -> list[RolloutGroup]:
        return await patiently("the encoder", self._settings.outage_seconds, lambda: self._attempt(request))

    async def _attempt(self, request: encoder_pb2.SampleRolloutsRequest) -> list[RolloutGroup]:
        found: dict[int, RolloutGroup] = {}
        async for answer in self._peers.encoder.SampleRollouts(request, timeout=self._settings.rollout_timeout):
            found[answer.history_index] = group_from_proto(answer)
        if sorted(found) != list(range(len(request.histories))):
            raise Internal(f"the encoder answered {len(found)} of {len(request.histories)} histories")
        return [found[at] for at in range(len(request.histories))]


def group_from_proto(message: encoder_pb2.SampleRolloutsResponse) -> RolloutGroup:
    """The rollouts of one history as the learning core takes them."""
    rollouts = tuple(
        Rollout(
            token_ids=tuple(rollout.token_ids),
            text=rollout.text,
            finish_reason="stop" if rollout.finish_reason == encoder_pb2.FINISH_REASON_STOP else "length",
            engine_logprobs=tuple(rollout.log_probs),
        )
        for rollout in message.rollouts
    )
    return RolloutGroup(tuple(message.prompt_token_ids), rollouts, message.encoder_version)
