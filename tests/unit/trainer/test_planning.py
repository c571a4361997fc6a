"""The plan of a job, with numbers derived by hand, and the combinations that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from langptune.errors import InvalidArgument
from services.trainer.jobs.architecture import Reader, Writer, reader, writer
from services.trainer.jobs.planning import check_batches, check_models, encoder_parameters, plan_job
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.presets import preset

SMALL = Writer(hidden=4, layers=3, attention=4, key_value=2, intermediate=8, vocabulary=10, extra=0, tied=False)
TINY = Reader(hidden=2, layers=1, intermediate=4, vocabulary=5, positions=4, types=1)


def config(**values: Any) -> LearningConfig:
    sizes = {
        "rlso": {"batches": 2, "histories": 4, "trainable": "last_k", "last_k": 1, "measure_kl": False},
        "contrastive": {"batches": 0},
    }
    return LearningConfig.parse({"outer_iterations": 3, **sizes, **values})


def test_parameters_by_hand() -> None:
    """A layer: q 16, k 8, v 8, o 16, three MLP matrices of 32, two norms of 4: 152. lm_head 40, and as many in the embedding.

    All: 3 x 152 + 2 x 40 + 4 = 540. Last layer, final norm and lm_head: 152 + 4 + 40 = 196.
    """
    assert SMALL.layer == 152
    assert encoder_parameters(SMALL, config().rlso) == (540, 196)


def test_memory_by_hand() -> None:
    """540 weights of 4 bytes; 196 learn. Two processes: stage 0 keeps two moments whole (8 bytes a parameter that learns);
    the others share out the moments and the optimizer's own copy (12); stage 2 gradients, too; stage 3 weights, too."""
    plan = plan_job(config(distributed={"processes": 2}), SMALL, None, rate=1.0)
    rows = [(stage.weights_bytes, stage.gradient_bytes, stage.optimizer_bytes) for stage in plan.memory]
    assert rows == [(2160, 784, 1568), (2160, 784, 1176), (2160, 392, 1176), (1080, 392, 1176)]
    offloaded = plan_job(config(distributed={"processes": 2, "offload": True}), SMALL, None, rate=1.0)
    assert [stage.optimizer_bytes for stage in offloaded.memory] == [1568, 0, 0, 0]


def test_tokens_arithmetic_and_time_by_hand() -> None:
    """4 histories of 1,024 + 2 x 512 tokens: 8,192 a pass, 4 epochs: 32,768 an update; 6 updates.

    Forward: the layer that learns, 152 x 8,192, and lm_head on 4,096 response tokens, 40 x 4,096: 1,409,024 a pass, at 2 FLOP,
    4 times; the two frozen layers once: 2 x 304 x 8,192. Backward: 4 FLOP on the 1,409,024, 4 times.
    """
    plan = plan_job(config(), SMALL, None, rate=1e6)
    update = 8 * 1_409_024 + 2 * 304 * 8_192 + 16 * 1_409_024
    assert (plan.tokens_per_update, plan.rlso_updates, plan.cl_updates) == (32_768, 6, 0)
    assert plan.total_flops == 6 * update
    assert plan.estimated_seconds == pytest.approx(6 * update / 1e6)
    assert plan_job(config(distributed={"processes": 4}), SMALL, None, 1e6).estimated_seconds == pytest.approx(1.5 * update / 1e6)


def test_the_embedder_alone() -> None:
    """Embeddings (5 + 4 + 1 + 2) x 2 = 24; a layer: attention 4 x (4 + 2), feed-forward 16 + 4 + 2, norms 8: 54; pooler 6."""
    values = config(rlso={"batches": 0}, contrastive={"batches": 2, "final_batches": 1, "batch_size": 8})
    plan = plan_job(values, None, TINY, rate=1.0)
    assert (plan.decoder_parameters, plan.decoder_trainable_parameters, plan.encoder_parameters) == (84, 84, 0)
    assert (plan.cl_updates, plan.tokens_per_update) == (7, 0)
    assert plan.total_flops == 7 * 6 * 54 * 16 * 512


def test_the_paper_s_recipes_have_plans() -> None:
    """Gemma-2B's adapters of rank 1,024: a layer's matrices have 2,048+2,048, twice 2,048+256, 2,048+2,048 and three times
    2,048+16,384 rows and columns, 68,096; 18 layers, and 2,048 + 256,000 for lm_head: 1,519,386,624 parameters."""
    gemma, mxbai = writer("google/gemma-2b-it"), reader("mixedbread-ai/mxbai-embed-large-v1")
    plan = plan_job(preset("paper/gemma-2b-it"), gemma, mxbai, 5e13)
    assert plan.encoder_trainable_parameters == 1024 * (18 * 68_096 + 258_048) == 1_519_386_624
    assert (plan.rlso_updates, plan.cl_updates) == (1000, 4000)
    check_models(preset("paper/gemma-2b-it"), gemma)
    check_models(preset("paper/llama-3-8b-it"), writer("meta-llama/Meta-Llama-3-8B-Instruct"))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"rlso": {"trainable": "last_k", "last_k": 4}}, "rlso.last_k"),
        ({"rlso": {"trainable": "lora", "lora_rank": 5}}, "rlso.lora_rank"),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_models(config(**values), SMALL)
    assert refused.value.field == field
    check_models(config(**values), None)


def test_batches_larger_than_the_data_are_refused() -> None:
    values = config(contrastive={"batches": 1, "batch_size": 10})
    check_batches(values, 10)
    for users, field in ((9, "contrastive.batch_size"), (3, "rlso.histories")):
        with pytest.raises(InvalidArgument) as refused:
            check_batches(values, users)
        assert refused.value.field == field
    check_batches(config(), 4)  # no CL: its batch size is nobody's


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"distributed": {"processes": 3}}, "distributed.processes"),
        ({"distributed": {"offload": True}}, "distributed.offload"),
        ({"distributed": {"zero_stage": 1}}, "distributed.zero_stage"),
        ({"distributed": {"processes": 0}}, "distributed.processes"),
    ],
)
def test_processes_that_cannot_be_are_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        config(**values)
    assert refused.value.field == field
