"""The page's own rules for text, held against the gateway's, and its merge of two edits."""

import pytest
from playwright.async_api import Page

from langptune.text import sentences
from services.gateway.profiles.marks import mark_field
from tests.browser.conftest import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
TEXTS = [
    "",
    "  \n ",
    "One.",
    "No full stop",
    "The user enjoys noir. They like rain!  Never 'horror.' Or so? \"Quoted.\" End",
    "e.g. this one, approx. 3.5 stars. Next one… (in brackets.) Last.",
    "Likes:\n- trains. And more\n- rain\n\nDislikes: war.",
    "## Summary\nÄrger über Öl. Être heureux? Ça va. 日本語の文。 次の文。",
    "Ends with spaces.   \n   Begins with spaces.",
    "Dots ... and more... Yes.",
]


async def test_sentences_are_those_of_the_gateway(page: Page, site: Site) -> None:
    await page.goto(site.url)
    script = "async (texts) => { const { sentences } = await import('/text.js'); return texts.map((t) => sentences(t)); }"
    for text, found in zip(TEXTS, await page.evaluate(script, TEXTS), strict=True):
        assert [each["text"] for each in found] == sentences(text)
        assert [text[each["start"] : each["end"]] for each in found] == sentences(text)


async def test_sentences_are_the_same_when_the_gateway_says_so(page: Page, site: Site) -> None:
    await page.goto(site.url)
    pairs = [
        ("Likes rain.", "likes  RAIN"),
        ("Likes rain.", "Likes trains."),
        ("!!", "!?"),
        ("Über Öl.", "über öl"),
        ("a_b c", "a b c"),
    ]
    script = "async (pairs) => { const { same } = await import('/text.js'); return pairs.map(([a, b]) => same(a) === same(b)); }"
    assert await page.evaluate(script, pairs) == [mark_field(one) == mark_field(other) for one, other in pairs]


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged"),
    [
        ("A. B.", "A. B.", "A. B. C.", "A. B. C."),  # I changed nothing
        ("A. B.", "A. C. B.", "A. B.", "A. C. B."),  # they changed nothing
        ("A. B.", "A.", "A. B. C.", "A. C."),  # I took one out, they put one in
        ("A. B.", "X. A. B.", "A. B. Y.", "X. A. B. Y."),  # both put one in
        ("A. B.", "A. X.", "A. Y.", "A. X. Y."),  # both changed the same one: both are kept
        ("A.", "A. X.", "A. X!", "A. X!"),  # both put the same one in
        ("", "Mine.", "Theirs.", "Mine. Theirs."),
        ("A. B.", "B.", "A.\nB. C.", "B. C."),  # their line breaks stay where there is text around them
    ],
)
async def test_edits_of_both_sides_are_put_together(
    page: Page, site: Site, base: str, mine: str, theirs: str, merged: str
) -> None:
    await page.goto(site.url)
    script = "async (texts) => { const { merge } = await import('/text.js'); return merge(...texts); }"
    assert await page.evaluate(script, [base, mine, theirs]) == merged


async def test_headings_begin_sections(page: Page, site: Site) -> None:
    await page.goto(site.url)
    script = (
        "async (text) => { const { sections } = await import('/text.js');"
        " return sections(text).map((s) => [s.heading?.text ?? null, s.sentences.map((each) => each.text)]); }"
    )
    text = "Likes trains. Likes rain.\nA new line.\nDislikes:\nWar. Clowns.\n# Else\nQuiet."
    assert await page.evaluate(script, text) == [
        [None, ["Likes trains.", "Likes rain."]],
        [None, ["A new line."]],
        ["Dislikes:", ["War.", "Clowns."]],
        ["# Else", ["Quiet."]],
    ]
