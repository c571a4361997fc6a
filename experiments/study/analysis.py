"""What the answers say: accuracy, whether two kinds of profile differ, how long texts are and how long reading took.

Tables 5 to 8 of the paper. Nothing here knows who answered. A task that was not answered (a model's text out of form) counts
neither as right nor as wrong; how many there are stands beside every accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

import numpy as np
from scipy import stats

from experiments.statistics import holm
from experiments.study.tasks import Kit

OUTLIER = 3.0  # standard deviations; the paper's |z| > 3


@dataclass(frozen=True, slots=True)
class Response:
    """One task as one respondent left it."""

    respondent: str
    user_id: str
    profile_type: str
    correct: bool | None  # None: no answer
    seconds: float | None = None  # from the page to the answer
    traits: Mapping[str, str] = field(default_factory=dict, hash=False)  # the respondent's questionnaire


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Right answers among the answered, with the 95 % Wilson interval."""

    right: int
    answered: int
    refused: int
    share: float  # 0.0 where nothing was answered
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class McNemar:
    """The same users under two profile types: McNemar's exact two-sided test."""

    first: str
    second: str
    users: int  # answered under both
    first_only: int  # right under the first type alone
    second_only: int
    p_value: float
    p_adjusted: float  # Holm, over all pairs of types


@dataclass(frozen=True, slots=True)
class Reading:
    """Table 6: texts of one kind, and how long their tasks took; means."""

    characters: float
    words: float
    seconds: float | None  # outliers left out; None where no time was taken


def accuracy(responses: Iterable[Response]) -> Accuracy:
    """Over all of `responses`."""
    found = [response.correct for response in responses]
    answered = [correct for correct in found if correct is not None]
    right = sum(answered)
    if not answered:
        return Accuracy(0, 0, len(found), 0.0, 0.0, 1.0)
    interval = stats.binomtest(right, len(answered)).proportion_ci(0.95, method="wilson")
    return Accuracy(right, len(answered), len(found) - len(answered), right / len(answered), interval.low, interval.high)


def by_type(responses: Sequence[Response], kinds: Sequence[str]) -> dict[str, Accuracy]:
    """Table 5: one accuracy for each profile type."""
    return {kind: accuracy(response for response in responses if response.profile_type == kind) for kind in kinds}


def mcnemar(responses: Sequence[Response], kinds: Sequence[str]) -> list[McNemar]:
    """Every pair of types, on the users that were answered under both.

    Where several respondents answered the same task, their answers are pairs in the order that they came in. Under the null
    hypothesis each user that is right under one type alone is as likely to be so under either: p is that of the binomial test.
    """
    tests = []
    for first, second in combinations(kinds, 2):
        pairs = _pairs(responses, first, second)
        only = (sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
        p_value = float(stats.binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0
        tests.append(McNemar(first, second, len(pairs), *only, p_value, p_value))
    adjusted = holm([test.p_value for test in tests])
    return [
        McNemar(test.first, test.second, test.users, test.first_only, test.second_only, test.p_value, p)
        for test, p in zip(tests, adjusted, strict=True)
    ]


def _pairs(responses: Sequence[Response], first: str, second: str) -> list[tuple[bool, bool]]:
    answers: dict[tuple[str, str], list[bool]] = {}
    for response in responses:
        if response.correct is not None:
            answers.setdefault((response.user_id, response.profile_type), []).append(response.correct)
    users = dict.fromkeys(user for user, _ in answers)
    return [pair for user in users for pair in zip(answers.get((user, first), []), answers.get((user, second), []), strict=False)]


def mean_seconds(seconds: Sequence[float]) -> float | None:
    """The mean without values further than OUTLIER standard deviations from the mean of all; None of none."""
    if not seconds:
        return None
    values = np.asarray(seconds)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    near = values[np.abs(values - values.mean()) <= OUTLIER * spread] if spread > 0 else values
    return float(near.mean())


def reading(kit: Kit, responses: Sequence[Response]) -> dict[str, Reading]:
    """Table 6: a row for the two items together, then one for each profile type."""
    rows = {"answer options": _reading([" ".join(task.options) for task in kit.tasks], [])}
    for kind in kit.profile_types:
        texts = [task.profile for task in kit.tasks if task.profile_type == kind]
        times = [response.seconds for response in responses if response.profile_type == kind and response.seconds is not None]
        rows[kind] = _reading(texts, times)
    return rows


def _reading(texts: Sequence[str], seconds: Sequence[float]) -> Reading:
    return Reading(fmean(map(len, texts)), fmean(len(text.split()) for text in texts), mean_seconds(seconds))


@dataclass(frozen=True, slots=True)
class Group:
    """Tables 7 and 8: respondents who gave one answer to one question of the questionnaire."""

    answer: str
    respondents: int
    accuracy: dict[str, Accuracy]  # by profile type
    seconds: dict[str, float | None]


def breakdown(responses: Sequence[Response], question: str, kinds: Sequence[str]) -> list[Group]:
    """One group per answer to `question` (in order of first appearance), and everybody as "(all)"."""
    groups: dict[str, list[Response]] = {}
    for response in responses:
        if answer := response.traits.get(question):
            groups.setdefault(answer, []).append(response)
    return [_group(answer, own, kinds) for answer, own in {**groups, "(all)": list(responses)}.items()]


def _group(answer: str, responses: Sequence[Response], kinds: Sequence[str]) -> Group:
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for response in responses:
        if response.seconds is not None:
            times[response.profile_type].append(response.seconds)
    seconds = {kind: mean_seconds(own) for kind, own in times.items()}
    return Group(answer, len({response.respondent for response in responses}), by_type(responses, kinds), seconds)
