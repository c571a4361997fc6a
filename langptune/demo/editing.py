"""The edit that the demo makes: the user takes back one thing that the profile says they like, and says another."""

from __future__ import annotations

import re
from dataclasses import dataclass

from samples.lexicon import KINDS, plural
from samples.teacher import parse


@dataclass(frozen=True, slots=True)
class Edit:
    """A profile before and after; what was taken out and what was put in."""

    text: str
    removed: str  # attribute
    added: str  # attribute
    removed_sentence: str
    added_sentence: str


def edit_of(profile: str) -> Edit | None:
    """Another taste of the same kind in place of the first that the profile says is liked; None if it says none."""
    sentences = [sentence.strip() for sentence in re.findall(r"[^.]+\.?", profile.strip())]
    stated = {word for statement in parse(profile) for word in statement.attributes}
    for sentence, statement in zip(sentences, parse(profile), strict=True):
        if statement.stance == "likes" and statement.attributes:
            removed = statement.attributes[0]
            words = next(words for words in KINDS.values() if removed in words)
            added = next(word for word in words if word not in stated)
            written = f"The user enjoys {plural(added)}."
            text = " ".join(written if each == sentence else each for each in sentences)
            return Edit(text, removed, added, sentence, written)
    return None
