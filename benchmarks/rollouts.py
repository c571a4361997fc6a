"""How fast profiles are written: the transformers engine against `model.generate` as the research code calls it.

    python -m benchmarks.rollouts --json build/rollouts.json

Both sides: this process, one torch thread, fp32, the same model (the sample world's profile writer unless --model), the same
prompts, 2 samples a history at temperature 1. The engine gets N concurrent calls of one history each. The baseline is what the
research code does: 8 histories a call, each prompt repeated for its samples, EOS disabled, always 512 new tokens.
Because stopping at EOS explains much of the difference, the same `generate` with EOS enabled is measured beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from langptune.domain import Interaction
from langptune.local.settings import sample_model
from langptune.text import DEFAULT_DOMAIN
from langptune.weights import WeightsStore
from samples.dataset import world_sessions
from samples.world import make_catalogue
from services.encoder.engines.port import Options, RolloutGroup, Work
from services.encoder.engines.transformers import TransformersEngine
from services.encoder.prompts import PromptBuilder
from services.encoder.settings import EncoderSettings

SAMPLES = 2
BASELINE_HISTORIES = 8  # a call, as in the research code


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    concurrencies: tuple[int, ...] = (1, 8, 32)
    new_tokens: int = 512  # fixed for the baseline, the limit for the engine
    rounds: int = 3  # of the engine, each with other histories and seeds; the baseline's cost does not depend on them: one


@dataclass(frozen=True)
class Rate:
    """What was written in how many seconds."""

    profiles: int
    tokens: int  # up to and including EOS
    computed_tokens: int  # rows times positions that were computed
    seconds: float
    cpu_seconds: float  # of the whole process: what other work on the machine disturbs less

    def figures(self) -> dict[str, float]:
        return {
            "profiles_per_second": self.profiles / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
            "computed_tokens_per_second": self.computed_tokens / self.seconds,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }


class Baseline:
    """`model.generate` in calls of 8 histories, each prompt repeated for its samples."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new_tokens: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._new_tokens = new_tokens
        self._prompts = PromptBuilder(tokenizer, 1_024)

    def run(self, histories: Sequence[Sequence[Interaction]], *, until_eos: bool) -> Rate:
        """`until_eos`: let texts end (a call lasts as long as its longest text), else always write `new_tokens`."""
        torch.manual_seed(0)
        started, cpu_started = time.perf_counter(), time.process_time()
        prompts = [self._prompts.build(history, DEFAULT_DOMAIN, "history").token_ids for history in histories]
        chunks = [prompts[at : at + BASELINE_HISTORIES] for at in range(0, len(prompts), BASELINE_HISTORIES)]
        texts = [text for chunk in chunks for text in self._generate(chunk, until_eos)]
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        ends = [1 + text.index(self._eos) if self._eos in text else len(text) for text in texts]
        return Rate(len(texts), sum(ends), sum(map(len, texts)), seconds, cpu_seconds)

    @property
    def _eos(self) -> int:
        return int(self._tokenizer.eos_token_id)

    def _generate(self, prompts: Sequence[list[int]], until_eos: bool) -> list[list[int]]:
        repeated = [prompt for prompt in prompts for _ in range(SAMPLES)]
        width = max(map(len, repeated))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in repeated])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in repeated])
        lengths: dict[str, Any] = {"max_new_tokens": self._new_tokens}
        if not until_eos:
            lengths["min_new_tokens"] = self._new_tokens
        written = self._model.generate(  # type: ignore[operator]  # transformers annotates in part
            ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=self._eos, **lengths
        )
        return [row[width:].tolist() for row in written]


async def engine_rate(engine: TransformersEngine, works: Sequence[Work]) -> Rate:
    """All of `works` at once."""

    async def one(work: Work) -> list[RolloutGroup]:
        return [group async for group in engine.sample_rollouts(work)]

    started, cpu_started = time.perf_counter(), time.process_time()
    groups = [group for answer in await asyncio.gather(*map(one, works)) for group in answer]
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    tokens = [len(rollout.token_ids) for group in groups for rollout in group.rollouts]
    return Rate(len(tokens), sum(tokens), sum(tokens), seconds, cpu_seconds)


async def streaming(engine: TransformersEngine, works: Sequence[Work]) -> dict[str, float]:
    """Seconds to the first piece and between pieces, all of `works` at once."""
    firsts: list[float] = []
    gaps: list[float] = []

    async def one(work: Work) -> None:
        last, times = time.perf_counter(), []
        async for part in engine.stream(work):
            if isinstance(part, str):
                times.append(time.perf_counter() - last)
                last = time.perf_counter()
        firsts.append(times[0])
        gaps.extend(times[1:])

    await asyncio.gather(*map(one, works))
    return {
        "time_to_first_token_median_s": statistics.median(firsts),
        "time_to_first_token_p95_s": _p95(firsts),
        "between_pieces_median_s": statistics.median(gaps),
        "between_pieces_p95_s": _p95(gaps),
    }


async def run(model: str, plan: Plan, tell: Callable[[str], object]) -> dict[str, Any]:
    """Every concurrency, engine and baseline in turns."""
    most = max(plan.concurrencies)
    sessions = world_sessions(make_catalogue(1_200, seed=0), most * (plan.rounds + 1), seed=0)
    histories = [session.history for session in sessions]
    with tempfile.TemporaryDirectory() as folder:
        store = WeightsStore(f"{folder}/weights", f"{folder}/cache")
        version = store.ensure_base("encoder", model).version
        engine = TransformersEngine(EncoderSettings(torch_threads=1, encoder_device="cpu"), store)
        await engine.start(version)
        baseline = Baseline(
            AutoModelForCausalLM.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model), plan.new_tokens
        )

        def works(count: int, turn: int, samples: int = SAMPLES) -> list[Work]:
            chosen = histories[turn * most : turn * most + count]
            return [
                Work(version, [history], DEFAULT_DOMAIN, Options(plan.new_tokens, 1.0, turn * most + at), samples)
                for at, history in enumerate(chosen)
            ]

        await engine_rate(engine, works(1, plan.rounds))  # warm up
        results = []
        for count in plan.concurrencies:
            rates = [await engine_rate(engine, works(count, turn)) for turn in range(plan.rounds)]
            ours = Rate(*(sum(getattr(rate, name) for rate in rates) for name in Rate.__dataclass_fields__))
            fixed = baseline.run(histories[:count], until_eos=False)
            ending = baseline.run(histories[:count], until_eos=True)
            pieces = await streaming(engine, works(count, 0, samples=1))
            results.append(_row(count, ours, fixed, ending, pieces))
            tell(_line(results[-1]))
        await engine.close()
    return {"histories": results, "throughput_ratio": results[-1]["throughput_ratio"]}


def _row(count: int, ours: Rate, fixed: Rate, ending: Rate, pieces: dict[str, float]) -> dict[str, Any]:
    speed = ours.profiles / ours.seconds
    return {
        "concurrent_histories": count,
        "engine": ours.figures(),
        "generate_fixed_length": fixed.figures(),
        "generate_until_eos": ending.figures(),
        "throughput_ratio": speed / (fixed.profiles / fixed.seconds),
        "throughput_ratio_until_eos": speed / (ending.profiles / ending.seconds),
        "cpu_ratio": _cpu_ratio(ours, fixed),
        "cpu_ratio_until_eos": _cpu_ratio(ours, ending),
        "streaming": pieces,
    }


def _cpu_ratio(ours: Rate, other: Rate) -> float:
    """Profiles per CPU second, ours over the other's."""
    return ours.profiles / ours.cpu_seconds / (other.profiles / other.cpu_seconds)


def _line(row: dict[str, Any]) -> str:
    engine, fixed, ending = (
        row[name]["profiles_per_second"] for name in ("engine", "generate_fixed_length", "generate_until_eos")
    )
    return (
        f"{row['concurrent_histories']:>3} histories x {SAMPLES}: engine {engine:.2f} profiles/s "
        f"({row['engine']['tokens_per_second']:.0f} tokens/s), generate {fixed:.2f} fixed / {ending:.2f} until EOS, "
        f"ratio {row['throughput_ratio']:.1f} / {row['throughput_ratio_until_eos']:.1f} "
        f"(CPU {row['cpu_ratio']:.1f} / {row['cpu_ratio_until_eos']:.1f}); "
        f"first piece p95 {row['streaming']['time_to_first_token_p95_s'] * 1e3:.0f} ms\n"
    )


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def main() -> None:
    """Parse the command line, run, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("build/rollouts.json"), help="where the results go")
    parser.add_argument("--model", default=sample_model("profile-writer"), help="model folder of both sides")
    parser.add_argument("--quick", action="store_true", help="sizes that only show that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = Plan(concurrencies=(1, 4), new_tokens=96, rounds=1) if arguments.quick else Plan()
    config = AutoModelForCausalLM.from_pretrained(arguments.model).config
    about = {
        "command": " ".join(sys.orig_argv[1:]),
        "model": f"{config.model_type}, {config.num_hidden_layers} layers of {config.hidden_size}, {config.vocab_size} tokens",
        "samples_per_history": SAMPLES,
        "new_tokens": plan.new_tokens,
        "torch_threads": torch.get_num_threads(),
    }
    results = about | asyncio.run(run(arguments.model, plan, sys.stdout.write))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
