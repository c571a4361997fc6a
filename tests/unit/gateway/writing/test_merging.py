"""Several texts as one profile."""

from hypothesis import given
from hypothesis import strategies as st

from langptune.text import sentences
from services.gateway.writing.merging import merged

TEXTS = st.lists(st.sampled_from(["Likes cats.", "LIKES cats!", "Likes dogs.", "Hates rain. Likes sun.", ""]), max_size=6)


def test_the_newest_speaks_first_and_the_oldest_goes_first() -> None:
    texts = ["Likes cats. Hates rain.", "Likes dogs. LIKES cats!", "Likes sun."]
    assert merged(texts, 3) == "Likes cats. Hates rain. Likes dogs."
    assert merged([], 3) == ""


@given(TEXTS, st.integers(1, 4))
def test_nothing_is_said_twice_or_made_up(texts: list[str], most: int) -> None:
    said = [sentence for text in texts for sentence in sentences(text)]
    kept = sentences(merged(texts, most))
    assert len(kept) <= most
    assert set(kept) <= set(said)
    assert len({sentence.strip(".!").casefold() for sentence in kept}) == len(kept)
    assert merged([merged(texts, most)], most) == merged(texts, most)
