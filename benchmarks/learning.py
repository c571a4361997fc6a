"""What one LM update costs - rollouts, rewards, four epochs - against the compute pattern of the research code.

    python -m benchmarks.learning --json build/learning-cost.json             # 2 cores: about 5 minutes, `--quick`: one minute
    python -m benchmarks.learning --device cuda --json build/learning-gpu.json   # Gemma-2B and Llama-3-8B shapes, bf16

Each side of each recipe is a process of its own, with one thread and the same malloc settings, so its peak resident set
(ru_maxrss) is its own. Both have the same model, rollouts, rewards and mathematics, and end in the same losses, which is
checked. Profiles count as embedded already: the embedder costs both sides the same. On a GPU the plain side is left out unless
`--plain` is given. No GPU run of this command has been made yet.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from benchmarks.learning_plain import PlainLearner, plain_quality, plain_rows
from benchmarks.learning_shapes import EOS, FULL, TINY, Catalogue, Shape, build_catalogue, build_model, build_prompts
from langptune.ranking import ranking_quality
from services.decoder.matrix import Matrix, TargetSet
from services.encoder.engines.attention import prepare
from services.encoder.engines.decoding import Batch, Sample, Task
from services.trainer.learning.policy import Policy
from services.trainer.learning.policy_learner import PolicyLearner
from services.trainer.learning.ports import Rollout, RolloutGroup

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_TOP_PAD_": "67108864"}
REWARD_PROFILES, REWARD_REPEATS = 128, 5
PEAK_TFLOPS = 989.0  # one H100, dense bf16
LOSS_TOLERANCE = 1e-3  # relative, the largest over the epochs: four steps of AdamW let rounding grow
Result = TypeVar("Result")


@dataclass
class Clock:
    """Seconds by part: on the wall, and of this process's CPU time (which other work on the machine does not change as much)."""

    device: str
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is within."""
        self._settle()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self._settle()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - wall
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + time.process_time() - cpu

    def _settle(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def fast_side(shape: Shape, device: str, dtype: torch.dtype, scratch: Path) -> dict[str, Any]:
    """One update by the encoder's engine, the decoder's counting and the trainer's learner; leaves the rollouts in `scratch`."""
    clock, prompts = Clock(device), build_prompts(shape)
    catalogue = build_catalogue(shape.histories * shape.samples)
    model = build_model(shape, device, dtype)
    before = peak_memory(device)
    attention = model.config._attn_implementation
    prepare(model)
    with clock.part("generation"):
        groups = generate(shape, model, prompts)
    model.set_attn_implementation(attention)  # the trainer's own
    matrix = Matrix([str(at) for at in range(len(catalogue.items))], catalogue.items)
    with clock.part("rewards"):
        quality = counted_quality(matrix, catalogue, shape.histories * shape.samples)
    learner = PolicyLearner(Policy(model, _tokenizer(), shape.rlso()), shape.rlso())
    with clock.part("scoring and epochs"):
        update = learner.update(groups, quality.view(shape.histories, shape.samples), shape.rlso().learning_rate)
    (scratch / "groups").write_bytes(pickle.dumps((groups, quality)))
    return _figures(clock, before, list(update.losses), groups)


def generate(shape: Shape, model: PreTrainedModel, prompts: list[tuple[int, ...]]) -> list[RolloutGroup]:
    """As the encoder samples them: each prompt runs once and its samples join the batch; EOS ends a row."""
    batch = Batch(model, frozenset([EOS]))
    tasks = [Task(prompt, shape.samples, shape.response_limit, 1.0, seed=0, stream=at) for at, prompt in enumerate(prompts)]
    drafts = [batch.join(task) for task in tasks]
    while batch.rows:
        batch.step()
    return [
        RolloutGroup(prompt, tuple(_rollout(sample) for sample in draft.samples), "v0")
        for prompt, draft in zip(prompts, drafts, strict=True)
    ]


def _rollout(sample: Sample) -> Rollout:
    assert sample.finish_reason is not None  # the batch has no rows left
    return Rollout(tuple(sample.token_ids), "", sample.finish_reason, tuple(sample.log_probs))


def counted_quality(matrix: Matrix, catalogue: Catalogue, profiles: int) -> Tensor:
    """NDCG [profiles] by counting what stands above the target."""
    sets = [TargetSet([target], left_out) for target, left_out in zip(catalogue.targets, catalogue.histories, strict=True)]
    ranks = matrix.ranks(catalogue.profiles[:profiles], sets[:profiles])
    return torch.tensor([ranking_quality(row).ndcg for row in ranks])


def plain_side(shape: Shape, device: str, dtype: torch.dtype, scratch: Path) -> dict[str, Any]:
    """The same update, on the rollouts that the fast side left."""
    logging.set_verbosity_error()
    clock, prompts = Clock(device), build_prompts(shape)
    catalogue = build_catalogue(shape.histories * shape.samples)
    model = build_model(shape, device, dtype)
    before = peak_memory(device)
    learner = PlainLearner(model, shape)
    with clock.part("generation"):
        learner.generate(prompts)
    groups, counted = pickle.loads((scratch / "groups").read_bytes())
    with clock.part("rewards"):
        quality = plain_quality(catalogue, shape.histories * shape.samples)
    if not torch.allclose(quality, counted, rtol=1e-5):
        raise SystemExit("the two sides' rewards differ")
    rows = plain_rows(groups, shape, model.device)
    with clock.part("scoring"):
        behaviour, reference = learner.score(rows)
    with clock.part("epochs"):
        losses = learner.learn(rows, quality.view(shape.histories, shape.samples), behaviour, reference)
    return _figures(clock, before, losses, groups)


def reward_side(plain: bool) -> dict[str, Any]:
    """Rewards alone, and the matrix product alone, for 128 profiles."""
    catalogue = build_catalogue(REWARD_PROFILES)
    matrix = Matrix([str(at) for at in range(len(catalogue.items))], catalogue.items)
    before = peak_memory("cpu")
    if plain:
        seconds, quality = _fastest(lambda: plain_quality(catalogue, REWARD_PROFILES))
    else:
        seconds, quality = _fastest(lambda: counted_quality(matrix, catalogue, REWARD_PROFILES))
    product, _ = _fastest(lambda: catalogue.profiles @ catalogue.items.T)
    checked = [round(value, 5) for value in quality.tolist()]
    return {"seconds": seconds, "product_seconds": product, "extra_memory_mib": peak_memory("cpu") - before, "quality": checked}


def _fastest(function: Callable[[], Result]) -> tuple[float, Result]:
    best, result = float("inf"), function()
    for _ in range(REWARD_REPEATS):
        began = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - began)
    return best, result


def peak_memory(device: str) -> float:
    """MiB: of the process (ru_maxrss), or what torch had allocated on the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _figures(clock: Clock, before: float, losses: list[float], groups: list[RolloutGroup]) -> dict[str, Any]:
    peak = peak_memory(clock.device)
    prompts = [len(group.prompt_token_ids) for group in groups]
    responses = [len(rollout.token_ids) for group in groups for rollout in group.rollouts]
    return {
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
        "total": sum(clock.seconds.values()),
        "cpu_total": sum(clock.cpu_seconds.values()),
        "peak_memory_mib": peak,
        "extra_memory_mib": peak - before,
        "losses": losses,
        "mean_prompt": sum(prompts) / len(prompts),
        "mean_response": sum(responses) / len(responses),
        "prompt_tokens": sum(prompts),
        "response_tokens": sum(responses),
    }


def _tokenizer() -> PreTrainedTokenizerFast:
    """A policy has one to be saved with; here nothing is saved."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>")))


def utilisation(shape: Shape, fast: dict[str, Any], peak_tflops: float) -> dict[str, float]:
    """Tokens that learnt per second of scoring and epochs, and the model FLOPs of that against the peak of the GPU.

    Model FLOPs: 2 per weight and token forward, 2 more where the gradient of activations passes, 2 more where weights learn;
    attention is left out, and so is whatever a side computes beyond its need. Epochs see each prompt once and each response; of
    the last layer a prompt needs keys and values.
    """
    layer = _layer_weights(shape)
    learning = shape.last_k if shape.trainable == "last_k" else shape.layers
    tokens = fast["prompt_tokens"] + fast["response_tokens"]
    config = shape.rlso()
    trunk = 2 * (shape.layers - learning) * layer * tokens
    beyond_keys = layer - 2 * shape.hidden * shape.narrow  # what prompts do not need of the last layer
    top = learning * layer * tokens - beyond_keys * fast["prompt_tokens"]
    top += shape.hidden * shape.vocabulary * fast["response_tokens"]
    adapters = _adapter_products(shape, fast["prompt_tokens"], fast["response_tokens"]) if shape.trainable == "lora" else 0
    weights_learn = 0 if shape.trainable == "lora" else 2
    passes = config.epochs * ((4 + weights_learn) * top + 6 * adapters) + 4 * (top + adapters)  # epochs; behaviour and reference
    seconds = fast["seconds"]["scoring and epochs"]
    generated = fast["response_tokens"] / fast["seconds"]["generation"]
    learnt = config.epochs * tokens / seconds
    return {
        "generated_tokens_per_second": generated,
        "learnt_tokens_per_second": learnt,
        "mfu": (trunk + passes) / seconds / (peak_tflops * 1e12),
    }


def _layer_weights(shape: Shape) -> int:
    return 2 * shape.hidden * (shape.hidden + shape.narrow) + 3 * shape.hidden * shape.intermediate


def _adapter_products(shape: Shape, prompt_tokens: int, response_tokens: int) -> int:
    """Weights of adapters times the tokens that pass through them."""
    keys = 2 * (shape.hidden + shape.narrow)
    rest = 4 * shape.hidden + 3 * (shape.hidden + shape.intermediate)
    in_layers = shape.layers * (keys + rest) * (prompt_tokens + response_tokens) - rest * prompt_tokens
    return shape.lora_rank * (in_layers + (shape.hidden + shape.vocabulary) * response_tokens)


def _child(side: str, recipe: str, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.learning", "--device", options.device, "--side", side, "--recipe", recipe]
    output = scratch / f"{recipe}-{side}.json"
    threads = {} if options.device == "cuda" else {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    malloc = MALLOC if options.malloc else {}
    began = time.perf_counter()
    flags = [*(["--quick"] if options.quick else []), "--json", str(output), "--scratch", str(scratch)]
    subprocess.run([*command, *flags], check=True, env={**os.environ, **threads, **malloc})
    found: dict[str, Any] = json.loads(output.read_text())
    parts = ", ".join(f"{name} {value:.2f}" for name, value in found["seconds"].items()) if recipe != "rewards" else ""
    sys.stderr.write(f"{recipe} {side}: {time.perf_counter() - began:.0f} s; {parts}\n")
    return found


def _shape(options: argparse.Namespace, recipe: str) -> Shape:
    shape = (FULL if options.device == "cuda" else TINY)[recipe]
    return shape.quick() if options.quick else shape


def run_side(options: argparse.Namespace) -> dict[str, Any]:
    """What a child process measures."""
    if options.device == "cpu":
        torch.set_num_threads(1)
    if options.recipe == "rewards":
        return reward_side(options.side == "plain")
    side = plain_side if options.side == "plain" else fast_side
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    return side(_shape(options, options.recipe), options.device, dtype, options.scratch)


def run_all(options: argparse.Namespace) -> dict[str, Any]:
    """Both sides of both recipes and of the rewards, and their ratios."""
    found: dict[str, Any] = {"device": options.device, "malloc": options.malloc, "quick": options.quick}
    with_plain = options.device == "cpu" or options.plain
    with tempfile.TemporaryDirectory() as folder:
        for recipe in TINY:
            shape = _shape(options, recipe)
            fast = _child("fast", recipe, options, Path(folder))
            found[recipe] = {"shape": asdict(shape), "fast": fast, **utilisation(shape, fast, options.peak_tflops)}
            if with_plain:
                plain = _child("plain", recipe, options, Path(folder))
                found[recipe]["plain"] = plain
                found[recipe]["loss_difference"] = _check(fast["losses"], plain["losses"], options)
                found[f"{recipe}_update_ratio"] = plain["total"] / fast["total"]
                found[f"{recipe}_update_cpu_ratio"] = plain["cpu_total"] / fast["cpu_total"]
                found[f"{recipe}_memory_ratio"] = plain["peak_memory_mib"] / fast["peak_memory_mib"]
        sides = {side: _child(side, "rewards", options, Path(folder)) for side in ("fast", "plain")}
    if sides["fast"].pop("quality") != sides["plain"].pop("quality"):
        raise SystemExit("the two sides' rewards differ")
    found["rewards"] = sides
    found["reward_ratio"] = sides["plain"]["seconds"] / sides["fast"]["seconds"]
    found["reward_floor_ratio"] = sides["fast"]["seconds"] / sides["fast"]["product_seconds"]
    return found


def _check(fast: list[float], plain: list[float], options: argparse.Namespace) -> float:
    """The largest relative difference of an epoch's loss; bf16 rounds more than this is a check of."""
    worst = max(abs(ours - theirs) / abs(theirs) for ours, theirs in zip(fast, plain, strict=True))
    if options.device == "cpu" and worst > LOSS_TOLERANCE:
        raise SystemExit(f"the two sides' losses differ by {worst:.1e}: {fast} and {plain}")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__.split("\n")[0])
    parser.epilog = "example: python -m benchmarks.learning --json build/learning-cost.json"
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="a few short histories: does it run, not how fast is it")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: Gemma-2B and Llama-3-8B shapes in bf16")
    parser.add_argument("--plain", action="store_true", help="on cuda: measure the plain side too (on cpu it always is)")
    parser.add_argument(
        "--peak-tflops", type=float, default=PEAK_TFLOPS, help="of the GPU, dense bf16 (default: %(default)s, H100)"
    )
    parser.add_argument("--default-malloc", dest="malloc", action="store_false", help="leave glibc's malloc as it is, both sides")
    parser.add_argument("--side", choices=("fast", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--recipe", choices=(*TINY, "rewards"), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    found = run_side(options) if options.side else run_all(options)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=2))
    if not options.side:
        for name, value in found.items():
            if name.endswith("_ratio"):
                sys.stdout.write(f"{name}: {value:.2f}\n")


if __name__ == "__main__":
    main()
