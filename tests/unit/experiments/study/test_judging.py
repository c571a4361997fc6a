"""Scripted judges whose accuracy is known: what is measured is what they do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.study.analysis import accuracy, by_type, mcnemar
from experiments.study.judges import WordJudge
from experiments.study.judging import judge_kit, responses_of
from experiments.study.tasks import Task, make_kit
from langptune.errors import FailedPrecondition, Unavailable
from tests.unit.experiments.study.world import KINDS, sessions, small_kit


class Scripted:
    """Right with a probability that depends on the profile type, and silent with another; deterministic in the seed."""

    name = "scripted"

    def __init__(self, right: dict[str, float], silent: float = 0.0, seed: int = 0) -> None:
        self._right = right
        self._silent = silent
        self._seed = seed
        self.asked: list[str] = []

    async def answer(self, task: Task) -> str:
        self.asked.append(task.task_id)
        silent, right = np.random.default_rng([self._seed, *task.task_id.encode()]).random(2)
        if silent < self._silent:
            return "I would rather not say."
        other = "B" if task.answer == "A" else "A"
        return f"Justification: A feeling.\n\nChoice: {task.answer if right < self._right[task.profile_type] else other}"


class AlwaysFirst:
    name = "first"

    async def answer(self, task: Task) -> str:
        return "Justification: It comes first.\n\nChoice: A"


async def test_the_accuracy_found_is_the_judges(tmp_path: Path) -> None:
    """Seeds 0 to 3, 100 users each. A 95 % interval misses the truth once in 20: of 12, at most 2 may (more: p = .02)."""
    truth = dict(zip(KINDS, (0.5, 0.75, 0.95), strict=True))
    inside = 0
    for seed in range(4):
        found = by_type(await judge_kit(small_kit(100, seed), Scripted(truth, seed=seed), tmp_path / f"{seed}.jsonl"), KINDS)
        inside += sum(found[kind].low <= truth[kind] <= found[kind].high for kind in KINDS)
        assert all(found[kind].answered == 100 for kind in KINDS)
    assert inside >= 10


async def test_sure_judges_are_always_right_or_wrong(tmp_path: Path) -> None:
    kit = small_kit(40)
    responses = await judge_kit(kit, Scripted(dict(zip(KINDS, (0.0, 1.0, 1.0), strict=True))), tmp_path / "a.jsonl")
    assert [found.share for found in by_type(responses, KINDS).values()] == [0.0, 1.0, 1.0]
    zero_one, zero_two, one_two = mcnemar(responses, KINDS)
    assert zero_one.p_value == zero_two.p_value == pytest.approx(2 * 0.5**40)
    assert one_two.p_value == 1.0


async def test_a_judge_that_looks_at_the_place_alone_is_right_half_of_the_time(tmp_path: Path) -> None:
    for seed in range(5):
        assert accuracy(await judge_kit(small_kit(30, seed), AlwaysFirst(), tmp_path / f"{seed}.jsonl")).share == 0.5


async def test_what_is_no_answer_is_counted_apart(tmp_path: Path) -> None:
    kit = small_kit(100)
    found = accuracy(await judge_kit(kit, Scripted(dict.fromkeys(KINDS, 1.0), silent=0.3), tmp_path / "a.jsonl"))
    assert found.share == 1.0
    assert found.answered + found.refused == 300
    assert 60 <= found.refused <= 120  # binomial(300, .3): mean 90, deviation 8


async def test_a_study_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    class Fragile(Scripted):
        async def answer(self, task: Task) -> str:
            if len(self.asked) == 20:
                raise Unavailable("gone")
            return await super().answer(task)

    kit, right = small_kit(30), dict.fromkeys(KINDS, 0.8)
    with pytest.raises(Unavailable):
        await judge_kit(kit, Fragile(right), tmp_path / "a.jsonl", at_once=1)
    seen: list[tuple[int, int]] = []
    second = Scripted(right)
    responses = await judge_kit(kit, second, tmp_path / "a.jsonl", on_progress=lambda *at: seen.append(at))
    assert len(second.asked) == 70
    assert (seen[0], seen[-1]) == ((20, 90), (90, 90))
    assert [r.correct for r in responses] == [r.correct for r in await judge_kit(kit, Scripted(right), tmp_path / "b.jsonl")]


async def test_answers_to_another_kit_or_of_another_judge_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    await judge_kit(small_kit(10), AlwaysFirst(), path)
    with pytest.raises(FailedPrecondition, match="another kit"):
        await judge_kit(small_kit(10, seed=1), AlwaysFirst(), path)
    with pytest.raises(FailedPrecondition, match="answers of first"):
        await judge_kit(small_kit(10), Scripted(dict.fromkeys(KINDS, 1.0)), path)
    assert responses_of(small_kit(10, seed=1), path) == []


async def test_a_record_that_was_cut_in_two_is_asked_again(tmp_path: Path) -> None:
    kit, path = small_kit(10), tmp_path / "a.jsonl"
    await judge_kit(kit, AlwaysFirst(), path)
    path.write_bytes(path.read_bytes()[:-25])
    judge = Scripted(dict.fromkeys(KINDS, 1.0))
    judge.name = "first"
    await judge_kit(kit, judge, path)
    assert judge.asked == [json.loads(path.read_text().splitlines()[-1])["task_id"]]
    assert len(responses_of(kit, path)) == 30


async def test_the_word_judge_takes_the_item_that_shares_rarer_words(tmp_path: Path) -> None:
    """Item texts share "again", "Title" and the form; an item's own word is in one text alone."""
    rows, items = sessions(6)
    own = [f"likes word{row.target_item_ids[0][1:]}" for row in rows]
    kit = make_kit(rows, items, {"own": own, "common": ["again"] * 6, "nothing": ["zzz"] * 6})
    found = by_type(await judge_kit(kit, WordJudge(kit.tasks), tmp_path / "a.jsonl"), kit.profile_types)
    assert (found["own"].share, found["own"].answered) == (1.0, 6)
    assert (found["common"].answered, found["nothing"].answered) == (0, 0)
