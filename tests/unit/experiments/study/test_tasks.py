"""The tasks: what must hold whatever is drawn, and the forms that respondents read and write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.study.tasks import Wording, make_kit, read_kit, write_kit
from experiments.study.wording import Answer, parse_answer, prompt, question
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from langptune.text import item_text
from tests.unit.experiments.study.world import KINDS, sessions, small_kit


@given(users=st.integers(4, 40), seed=st.integers(0, 99))
def test_what_must_hold_of_any_kit(users: int, seed: int) -> None:
    rows, items = sessions(users)
    kit = small_kit(users, seed)
    own_text = {row.user_id: item_text(items[row.target_item_ids[0]]) for row in rows}
    seen = {row.user_id: {item_text(entry.item) for entry in row.history} for row in rows}
    assert [(task.user_id, task.profile_type) for task in kit.tasks] == [(row.user_id, kind) for row in rows for kind in KINDS]
    for task in kit.tasks:
        right, wrong = task.options if task.answer == "A" else task.options[::-1]
        assert right == own_text[task.user_id]
        assert wrong in set(own_text.values()) - {right} - seen[task.user_id]
    pairs = {(task.user_id, task.options) for task in kit.tasks}
    assert len(pairs) == users, "the two items and their order are the same under every profile type"
    firsts = sum(task.answer == "A" for task in kit.tasks) // len(KINDS)
    assert firsts == (users + 1) // 2, "whoever always says A is right half of the time"


def test_a_kit_is_the_same_again_from_its_file(tmp_path: Path) -> None:
    kit = small_kit()
    write_kit(kit, tmp_path / "study" / "kit.json")
    assert read_kit(tmp_path / "study" / "kit.json") == kit
    assert kit == small_kit()
    assert kit.content_hash != small_kit(seed=1).content_hash


def test_a_kit_that_was_changed_or_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kit.json"
    with pytest.raises(NotFound):
        read_kit(path)
    write_kit(small_kit(), path)
    raw = json.loads(path.read_text())
    raw["tasks"][0]["profile"] = "another text"
    path.write_text(json.dumps(raw))
    with pytest.raises(FailedPrecondition, match="changed"):
        read_kit(path)
    path.write_text("{}")
    with pytest.raises(FailedPrecondition, match="no study kit"):
        read_kit(path)


def test_what_cannot_be_asked_is_refused() -> None:
    rows, items = sessions(3)
    with pytest.raises(InvalidArgument, match="2 texts for 3"):
        make_kit(rows, items, {"langptune": ["a", "b"]})
    with pytest.raises(InvalidArgument, match="comes twice"):
        make_kit([*rows, rows[0]], items, {"langptune": ["a"] * 4})
    with pytest.raises(InvalidArgument, match="no other session"):
        make_kit(rows[:1], items, {"langptune": ["a"]})


def test_a_model_reads_profile_question_items_and_the_form_in_this_order() -> None:
    task = small_kit().tasks[0]
    text = prompt(task, Wording("read", "books"))
    parts = (task.profile, "The user read one of the following two books next.", *task.options, "Justification: <", "Choice: <")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert question(Wording()) == "The user watched one of the following two movies next. Which one do you think it is?"
    assert Wording.of("movies and TV shows") == Wording()
    assert question(Wording.of("gift cards")).startswith("The user chose one of the following two gift cards next.")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Justification: It fits.\n\nChoice: A", Answer("A", "It fits.")),
        ('Justification: It fits.\nChoice: "B"\n', Answer("B", "It fits.")),
        ("\n Justification:  Two. Sentences.  \n\n\nChoice: B.", Answer("B", "Two. Sentences.")),
        ("Choice: A", None),
        ("Choice: A\n\nJustification: It fits.", None),
        ("Justification: It fits.\n\nChoice: C", None),
        ("Justification: It fits.\n\nChoice: A or B", None),
        ("Justification: \n\nChoice: A", None),
        ('Justification: It fits.\n\nChoice: "A', None),
        ("Justification: It fits.\n\nChoice: A\n\nBut B is good as well.", None),
        ("I cannot answer this. Justification: x\n\nChoice: A", None),
        ("", None),
    ],
)
def test_an_answer_is_read_strictly(text: str, answer: Answer | None) -> None:
    assert parse_answer(text) == answer
