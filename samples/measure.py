"""What profiles are worth as text, apart from ranking: truth, polarity, repetition, readability.

Reported before and after training, so that a rise in NDCG bought with worse profiles shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from langptune.domain import Interaction
from samples.lexicon import ATTRIBUTES
from samples.teacher import Evidence, Statement, parse


@dataclass(frozen=True, slots=True)
class ProfileQuality:
    """All figures over a set of (history, profile) pairs. Shares are 0.0 to 1.0, pooled over all statements; 0.0 of none.

    An attribute is *stated* each time a profile says its word. A share over likes (dislikes) counts the attributes stated
    in sentences that say what the user likes (dislikes).
    """

    profiles: int
    truth: float  # stated attributes that some film of the history has
    likes_truth: float  # attributes stated as liked that a review of the history praises
    dislikes_truth: float  # attributes stated as disliked that a review of the history blames
    repetition: float  # stated attributes that the same profile had stated before
    grammar: float  # sentences that the teacher's grammar accepts
    stated: float  # attributes stated per profile
    likes_stated: float  # of them as liked
    dislikes_stated: float  # of them as disliked
    words: float  # words per profile
    chance: float  # truth of a word drawn at random: mean share of all attribute words that a history has

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)


def measure_profiles(pairs: Sequence[tuple[Sequence[Interaction], str]]) -> ProfileQuality:
    """The quality of each pair's profile as a summary of its history, pooled."""
    counts = _Counts()
    for history, profile in pairs:
        counts.add(Evidence.of(history), parse(profile), len(profile.split()))
    return ProfileQuality(
        profiles=len(pairs),
        truth=_share(counts.true, counts.stated),
        likes_truth=_share(counts.likes_true, counts.likes),
        dislikes_truth=_share(counts.dislikes_true, counts.dislikes),
        repetition=_share(counts.repeats, counts.stated),
        grammar=_share(counts.grammatical, counts.sentences),
        stated=_share(counts.stated, len(pairs)),
        likes_stated=_share(counts.likes, len(pairs)),
        dislikes_stated=_share(counts.dislikes, len(pairs)),
        words=_share(counts.words, len(pairs)),
        chance=_share(counts.seen, len(pairs) * len(ATTRIBUTES)),
    )


@dataclass
class _Counts:
    stated: int = 0
    true: int = 0
    likes: int = 0
    likes_true: int = 0
    dislikes: int = 0
    dislikes_true: int = 0
    repeats: int = 0
    sentences: int = 0
    grammatical: int = 0
    words: int = 0
    seen: int = 0

    def add(self, evidence: Evidence, statements: Sequence[Statement], words: int) -> None:
        said = [word for statement in statements for word in statement.attributes]
        liked = [word for statement in statements if statement.stance == "likes" for word in statement.attributes]
        disliked = [word for statement in statements if statement.stance == "dislikes" for word in statement.attributes]
        self.stated += len(said)
        self.true += sum(word in evidence.seen for word in said)
        self.likes += len(liked)
        self.likes_true += sum(word in evidence.praised for word in liked)
        self.dislikes += len(disliked)
        self.dislikes_true += sum(word in evidence.blamed for word in disliked)
        self.repeats += len(said) - len(set(said))
        self.sentences += len(statements)
        self.grammatical += sum(statement.grammatical for statement in statements)
        self.words += words
        self.seen += len(evidence.seen)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
