"""The results page: the blocks of README.md between `<!-- results: NAME -->` and `<!-- end -->` are written from result folders.

A block is the experiment's table, and its picture where it has one, which is kept beside the page. The prose around the blocks,
the paper's numbers included, is written by hand and stays.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from langptune.errors import FailedPrecondition

PAGE = Path(__file__).parent / "README.md"
_PICTURES = "pictures"  # folder beside the page
_BLOCK = re.compile(r"(<!-- results: (?P<name>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_page(file: Path, out: Path, names: Sequence[str]) -> None:
    """Fill the page at `file` and copy the pictures that it shows. Raises what `filled` raises, before anything is written."""
    page = filled(file.read_text(), out, names)
    pictures = file.parent / _PICTURES
    pictures.mkdir(exist_ok=True)
    for name in filter(lambda name: _picture(out, name).exists(), names):
        shutil.copyfile(_picture(out, name), pictures / f"{name}.png")
    file.write_text(page)


def filled(page: str, out: Path, names: Iterable[str]) -> str:
    """`page` with the results of the experiments `names` below `out` in their blocks; other blocks stay.

    Raises FailedPrecondition if an experiment has no block or no table.
    """
    tables = {name: _block(out, name) for name in names}
    without = set(tables) - {match["name"] for match in _BLOCK.finditer(page)}
    if without:
        raise FailedPrecondition(f"the page has no block for {', '.join(sorted(without))}", reason="NO_BLOCK")
    return _BLOCK.sub(lambda match: f"{match[1]}{tables[match['name']]}{match[3]}" if match["name"] in tables else match[0], page)


def _block(out: Path, name: str) -> str:
    try:
        table = (out / name / "table.md").read_text()
    except OSError as error:
        raise FailedPrecondition(f"{out / name} holds no table: {error}", reason="NO_RESULT") from error
    return table + (f"\n![{name}]({_PICTURES}/{name}.png)\n" if _picture(out, name).exists() else "")


def _picture(out: Path, name: str) -> Path:
    return out / name / "picture.png"
