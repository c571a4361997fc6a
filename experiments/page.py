"""The results page: the blocks of README.md between `<!-- results: NAME -->` and `<!-- end -->` are written from result folders.

The prose around them, the paper's numbers included, is written by hand and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from langptune.errors import FailedPrecondition

PAGE = Path(__file__).parent / "README.md"
_BLOCK = re.compile(r"(<!-- results: (?P<name>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, out: Path, names: Iterable[str]) -> str:
    """`page` with the tables of the experiments `names` below `out` in their blocks; other blocks stay.

    Raises FailedPrecondition if an experiment has no block or no table.
    """
    tables = {name: _table(out, name) for name in names}
    without = set(tables) - {match["name"] for match in _BLOCK.finditer(page)}
    if without:
        raise FailedPrecondition(f"the page has no block for {', '.join(sorted(without))}", reason="NO_BLOCK")
    return _BLOCK.sub(lambda match: f"{match[1]}{tables[match['name']]}{match[3]}" if match["name"] in tables else match[0], page)


def _table(out: Path, name: str) -> str:
    try:
        return (out / name / "table.md").read_text()
    except OSError as error:
        raise FailedPrecondition(f"{out / name} holds no table: {error}", reason="NO_RESULT") from error
