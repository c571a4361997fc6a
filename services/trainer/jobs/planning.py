"""What a job will take, before it takes it: parameters, memory by ZeRO stage, tokens, arithmetic and time, from sizes alone.

The formulas stand in docs/training.md. Parameters are exact; activations and time are estimates: every text is taken to be as
long as its limit, and generation, which another service does, is not in the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from langptune.errors import InvalidArgument
from langptune.v1 import trainer_pb2
from services.trainer.jobs.architecture import Reader, Writer
from services.trainer.learning.config import ContrastiveConfig, LearningConfig, RlsoConfig

PROMPT_TOKENS = 1_024  # limit of a prompt, LM tokens
TEXT_TOKENS = 512  # limit of an item text or a profile, embedder tokens
_FLOAT = 4  # bytes: the trainer works in float32


def check_models(config: LearningConfig, encoder: Writer | None) -> None:
    """Raises InvalidArgument naming a hyperparameter that does not fit the encoder."""
    rlso = config.rlso
    if encoder is None:
        return
    if rlso.trainable == "last_k" and rlso.last_k > encoder.layers:
        raise InvalidArgument("rlso.last_k", f"the encoder has {encoder.layers} layers, not {rlso.last_k}")
    if rlso.trainable == "lora" and rlso.lora_rank > encoder.hidden:
        raise InvalidArgument("rlso.lora_rank", f"the encoder is {encoder.hidden} wide: no adapter can use rank {rlso.lora_rank}")


def check_batches(config: LearningConfig, users: int) -> None:
    """Raises InvalidArgument naming a batch that is larger than the training data, in which a user would stand twice."""
    batches = (
        ("rlso.histories", config.rlso.histories, config.rlso_updates),
        ("contrastive.batch_size", config.contrastive.batch_size, config.contrastive_updates),
    )
    for name, size, updates in batches:
        if updates and size > users:
            raise InvalidArgument(name, f"is {size}, and there are {users} training users")


def plan_job(config: LearningConfig, encoder: Writer | None, decoder: Reader | None, rate: float) -> trainer_pb2.TrainingPlan:
    """For a job of checked values; a model that does not learn is None. `rate`: assumed FLOP/s of one process."""
    rlso, contrastive = config.rlso, config.contrastive
    encoder_all = encoder_learns = decoder_all = 0
    if encoder:
        encoder_all, encoder_learns = encoder_parameters(encoder, rlso)
    if decoder:
        decoder_all = decoder.total
    tokens = rlso.histories * (PROMPT_TOKENS + rlso.samples * rlso.max_new_tokens) if encoder else 0
    flops = config.rlso_updates * _rlso_flops(encoder, rlso, tokens) if encoder else 0.0
    if decoder:
        texts = _texts(contrastive) * TEXT_TOKENS  # in tokens
        flops += config.contrastive_updates * (8.0 if contrastive.cached else 6.0) * decoder.layers * decoder.layer * texts
    return trainer_pb2.TrainingPlan(
        encoder_parameters=encoder_all,
        encoder_trainable_parameters=encoder_learns,
        decoder_parameters=decoder_all,
        decoder_trainable_parameters=decoder_all,
        memory=_memory(config, encoder_all + decoder_all, encoder_learns + decoder_all, _activations(config, encoder, decoder)),
        tokens_per_update=tokens * _passes(rlso),
        cl_updates=config.contrastive_updates,
        rlso_updates=config.rlso_updates,
        total_flops=flops,
        estimated_seconds=flops / (rate * config.distributed.processes),
        assumed_flops_per_second=rate,
    )


def encoder_parameters(encoder: Writer, rlso: RlsoConfig) -> tuple[int, int]:
    """All and trainable; an lm_head that learns by itself is untied from the input embedding."""
    if rlso.trainable == "full":
        return encoder.total, encoder.total
    untied = encoder.total + (encoder.head if encoder.tied else 0)
    if rlso.trainable == "lora":
        adapters = encoder.lora(rlso.lora_rank)
        return untied + adapters, adapters
    return untied, rlso.last_k * encoder.layer + encoder.hidden + encoder.head


def _passes(rlso: RlsoConfig) -> int:
    """Passes over a batch: one an epoch, before them one of the reference, and of the policy where the reward has a KL term."""
    return rlso.epochs + (1 if rlso.gamma > 0 or rlso.measure_kl else 0) + (1 if rlso.gamma > 0 else 0)


def _rlso_flops(encoder: Writer, rlso: RlsoConfig, tokens: int) -> float:
    """2 FLOP a parameter and token forward, 2 back through it, 2 for its gradient; frozen layers below run forward once."""
    responses = rlso.histories * rlso.samples * rlso.max_new_tokens
    learning_layers = rlso.last_k if rlso.trainable == "last_k" else encoder.layers
    running = learning_layers * encoder.layer * tokens + encoder.head * responses
    gradients = running
    if rlso.trainable == "lora":
        gradients = encoder.lora(rlso.lora_rank) * tokens
    forward = 2.0 * running * _passes(rlso) + 2.0 * (encoder.layers - learning_layers) * encoder.layer * tokens
    return forward + rlso.epochs * (2.0 * running + 2.0 * gradients)


def _activations(config: LearningConfig, encoder: Writer | None, decoder: Reader | None) -> int:
    """Bytes kept for the backward pass of one micro-batch of the policy, or of one share of a contrastive batch: the larger."""
    found = [0]
    if encoder:
        rlso = config.rlso
        layers = rlso.last_k if rlso.trainable == "last_k" else encoder.layers
        adapters = 7 * rlso.lora_rank if rlso.trainable == "lora" else 0
        each = 4 * encoder.hidden + 2 * encoder.attention + 2 * encoder.key_value + 4 * encoder.intermediate + adapters
        group = PROMPT_TOKENS + rlso.samples * rlso.max_new_tokens
        found.append(_FLOAT * layers * each * max(rlso.micro_tokens, group))
    if decoder:
        each = 8 * decoder.hidden + 2 * decoder.intermediate
        share = -(-_texts(config.contrastive) // config.distributed.processes)
        texts = min(share, config.contrastive.micro_rows) if config.contrastive.cached else share
        found.append(_FLOAT * decoder.layers * each * TEXT_TOKENS * texts)
    return max(found)


def _texts(contrastive: ContrastiveConfig) -> int:
    """Profiles, their items, and further items of a batch."""
    return 2 * contrastive.batch_size + contrastive.catalogue_negatives


def _memory(config: LearningConfig, parameters: int, learning: int, activations: int) -> Iterator[trainer_pb2.StageMemory]:
    """Stage 0 is plain torch; the others keep the optimizer's own copy of what learns beside its two moments."""
    processes, offload = config.distributed.processes, config.distributed.offload
    for stage in range(4):
        optimizer = 2 * learning if stage == 0 else 3 * learning // processes
        yield trainer_pb2.StageMemory(
            zero_stage=stage,
            weights_bytes=_FLOAT * (parameters // processes if stage == 3 else parameters),
            gradient_bytes=_FLOAT * (learning // processes if stage >= 2 else learning),
            optimizer_bytes=0 if offload and stage else _FLOAT * optimizer,
            activation_bytes=activations,
        )
