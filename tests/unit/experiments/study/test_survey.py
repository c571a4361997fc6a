"""The human study: balance of the assignments, what people do to a survey, and what is left when it is over."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from experiments.study.analysis import by_type
from experiments.study.journal import Journal, read_journal
from experiments.study.survey.app import make_app
from experiments.study.survey.assignment import Assignments
from experiments.study.survey.results import human_answers, human_responses, write_csv
from experiments.study.survey.screening import FILMS, read_screening
from experiments.study.survey.survey import ABANDONED_AFTER, Page, Survey
from experiments.study.tasks import Kit, Task, Wording, make_kit
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.unit.experiments.study.world import KINDS, sessions, small_kit

ABOUT_ME = {"english": "Very well", "familiarity": "Slightly familiar"}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


Open = Callable[[Kit, Clock], Survey]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def open_survey(path: Path) -> Iterator[Open]:
    """Opens the survey at `path`, again and again; closes its journals in the end."""
    with ExitStack() as journals:
        yield lambda kit, clock: Survey(kit, journals.enter_context(Journal(path)), clock=clock)


def right_answer(page: Page) -> str:
    assert page.question is not None
    return page.question.answer


def take_part(survey: Survey, clock: Clock, *, worker: str = "", seconds: float = 10.0, tasks: int = 9) -> str:
    """Right answers to the screening and the first `tasks` tasks, `seconds` each; the questionnaire after the last."""
    person = survey.begin(worker)
    for _ in range(3 + tasks):
        page = survey.page(person)
        clock.now += seconds
        survey.submit(person, page.step, {"choice": right_answer(page)})
    if tasks == 9:
        survey.submit(person, survey.page(person).step, ABOUT_ME)
    return person


@given(users=st.integers(9, 60), kinds=st.integers(1, 4), seed=st.integers(0, 50))
def test_a_round_of_assignments_is_balanced(users: int, kinds: int, seed: int) -> None:
    rows, items = sessions(max(users, 3 * kinds))
    kit = make_kit(rows, items, {f"kind-{at}": ["text"] * len(rows) for at in range(kinds)}, seed=seed)
    assignments = Assignments(kit)
    read: Counter[str] = Counter()
    for number in range(assignments.per_round):
        tasks = assignments.tasks(number)
        assert Counter(task.profile_type for task in tasks) == dict.fromkeys(kit.profile_types, 3)
        assert len({task.user_id for task in tasks}) == len(tasks) == 3 * kinds
        read.update(task.task_id for task in tasks)
    assert set(read.values()) == {1}
    assert len(read) == len(rows) // (3 * kinds) * 3 * kinds * kinds
    assert assignments.tasks(assignments.per_round) != assignments.tasks(0), "a second round is another one"


def test_the_paper_has_150_participants_for_450_users() -> None:
    assert Assignments(small_kit(450)).per_round == 150
    with pytest.raises(InvalidArgument, match="8 users"):
        Assignments(small_kit(8))


def test_everybody_who_finishes_counts_once(open_survey: Open, path: Path, tmp_path: Path) -> None:
    kit, clock = small_kit(18), Clock()
    survey = open_survey(kit, clock)
    for at in range(6):
        take_part(survey, clock, worker=f"w{at}", seconds=10.0 + at)
    assert survey.counts() == {"consented": 6, "screened_out": 0, "finished": 6, "assignments_in_a_round": 6}
    answers = human_answers(read_journal(path))
    assert sorted(answer.task_id for answer in answers) == sorted(task.task_id for task in kit.tasks)
    assert {answer.seconds for answer in answers if answer.worker == "w3"} == {13.0}
    found = by_type(human_responses(kit, answers), KINDS)
    assert all((one.right, one.answered) == (18, 18) for one in found.values())

    write_csv(kit, answers, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 54
    assert rows[0]["correct"] == "1"
    assert rows[0]["english"] == "Very well"
    assert {row["code"] for row in rows if row["worker"] == "w3"} == {survey.page(rows[27]["participant"]).code}


def test_who_fails_the_screening_takes_no_assignment(open_survey: Open, path: Path) -> None:
    kit, clock = small_kit(9), Clock()
    survey = open_survey(kit, clock)
    person = survey.begin()
    for _ in range(3):
        page = survey.page(person)
        survey.submit(person, page.step, {"choice": "A"})
    assert [question.answer for question in FILMS] != ["A", "A", "A"]
    assert (survey.page(person).step, survey.page(person).code) == ("end", "")
    assert survey.counts()["screened_out"] == 1
    take_part(survey, clock)
    assert {answer.assignment for answer in human_answers(read_journal(path))} == {0}


def test_an_abandoned_assignment_goes_to_somebody_else(open_survey: Open, path: Path) -> None:
    kit, clock = small_kit(9), Clock()
    survey = open_survey(kit, clock)
    lost = take_part(survey, clock, tasks=4)
    take_part(survey, clock)  # while the first is still expected back
    clock.now += ABANDONED_AFTER + 1
    take_part(survey, clock, worker="third")
    assert [answer.assignment for answer in human_answers(read_journal(path))] == [1] * 9 + [0] * 9
    for _ in range(5):  # comes back after all
        page = survey.page(lost)
        survey.submit(lost, page.step, {"choice": right_answer(page)})
    survey.submit(lost, "questionnaire", ABOUT_ME)
    assert survey.page(lost).code, "is told a code like everybody else"
    assert len(human_answers(read_journal(path))) == 18, "but does not count a second time"


def test_a_survey_that_was_killed_goes_on_where_everybody_was(open_survey: Open, path: Path) -> None:
    kit, clock = small_kit(9), Clock()
    person = take_part(open_survey(kit, clock), clock, tasks=4)
    with path.open("ab") as file:
        file.write(b'{"kit": "half a rec')
    survey = open_survey(kit, clock)
    page = survey.page(person)
    assert (page.step, page.done, page.total) == ("task-5", 7, 13)
    clock.now += 7
    survey.submit(person, "task-5", {"choice": right_answer(page)})
    assert read_journal(path)[-1]["seconds"] == 7.0
    with pytest.raises(FailedPrecondition, match="another kit"):
        open_survey(small_kit(9, seed=1), clock)


def test_sending_twice_or_out_of_turn_changes_nothing(open_survey: Open, path: Path) -> None:
    kit, clock = small_kit(9), Clock()
    survey = open_survey(kit, clock)
    person = take_part(survey, clock, tasks=2)
    before = len(read_journal(path))
    for step in ("screening-1", "task-1", "task-4", "questionnaire", "end", "nonsense"):
        survey.submit(person, step, {"choice": "A"})
    assert len(read_journal(path)) == before
    assert survey.page(person).step == "task-3"
    with pytest.raises(InvalidArgument, match="choose one"):
        survey.submit(person, "task-3", {"choice": "C"})
    with pytest.raises(NotFound):
        survey.page("nobody")


def test_the_same_person_reads_the_same_page_again_with_the_clock_running(open_survey: Open, path: Path) -> None:
    clock = Clock()
    survey = open_survey(small_kit(9), clock)
    person = take_part(survey, clock, tasks=1)
    page = survey.page(person)
    clock.now += 30
    assert survey.page(person) == page
    clock.now += 5
    survey.submit(person, page.step, {"choice": "A"})
    assert read_journal(path)[-1]["seconds"] == 35.0


def test_a_walk_through_the_pages(open_survey: Open, path: Path) -> None:
    """Profiles with mark-up of their own are shown, not obeyed."""
    rows, items = sessions(9)
    kit = make_kit(rows, items, {kind: [f"<script>{kind}</script> & {row.user_id}" for row in rows] for kind in KINDS})
    by_text = {task.profile: task for task in kit.tasks}
    with TestClient(make_app(open_survey(kit, Clock()), consent="The Institute asks.")) as client:
        welcome = client.get("/?worker=<b>w7</b>")
        assert "The Institute asks." in welcome.text
        assert "<b>w7" not in welcome.text
        assert client.post("/begin", data={"worker": "w7"}).url.path == "/", "no consent, no survey"
        page = client.post("/begin", data={"worker": "w7", "agree": "yes"})
        for question in FILMS:
            page = client.post(action(page.text), data={"choice": question.answer})
        for at in range(9):
            assert f"Question {at + 4} of 13" in page.text
            shown = page.text.split('class="text profile">')[1].split("</section>")[0]
            assert "<script>" not in shown
            task: Task = by_text[shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")]
            refused = client.post(action(page.text), data={})
            assert refused.status_code == 422
            assert 'role="alert"' in refused.text
            page = client.post(action(page.text), data={"choice": task.answer})
        page = client.post(action(page.text), data=ABOUT_ME)
        assert re.search(r'class="code">[0-9A-F]{10}<', page.text)
        assert client.get("/status").json()["finished"] == 1
    found = human_responses(kit, human_answers(read_journal(path)))
    assert [response.correct for response in found] == [True] * 9


def action(html: str) -> str:
    found = re.search(r'action="([^"]+)"', html)
    assert found
    return found.group(1)


def test_nothing_comes_from_elsewhere_and_nothing_runs(open_survey: Open) -> None:
    with TestClient(make_app(open_survey(small_kit(9), Clock()))) as client:
        welcome = client.get("/")
        assert "default-src 'none'" in welcome.headers["content-security-policy"]
        assert "<script" not in welcome.text
        assert re.findall(r'(?:src|href)="([^"]+)"', welcome.text) == ["/style/survey.css"]
        assert client.get("/style/survey.css").status_code == 200
        assert client.get("/survey").url.path == "/", "who has not consented is led to the beginning"
        assert client.post("/begin", content=b"x" * 5_000).status_code == 413
        answer = client.post("/begin", data={"agree": "yes"}, follow_redirects=False)
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "SameSite=strict" in answer.headers["set-cookie"]


def test_a_study_of_books_says_books(open_survey: Open) -> None:
    rows, items = sessions(9)
    kit = make_kit(rows, items, {kind: ["text"] * 9 for kind in KINDS}, wording=Wording("read", "books"))
    with TestClient(make_app(open_survey(kit, Clock()))) as client:
        assert "taste in books" in client.get("/").text
        page = client.post("/begin", data={"agree": "yes"})
        assert "The user read one of the following two books next." in page.text


def test_screening_questions_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    own = [{"profile": f"p{at}", "options": ["a", "b"], "answer": "A"} for at in range(3)]
    path.write_text(str(own).replace("'", '"'))
    assert [question.profile for question in read_screening(path)] == ["p0", "p1", "p2"]
    path.write_text("[]")
    with pytest.raises(FailedPrecondition, match="must hold 3"):
        read_screening(path)
    with pytest.raises(NotFound):
        read_screening(tmp_path / "none.json")
