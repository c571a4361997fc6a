"""Checkpoints of a run: one folder each, written atomically, verified when read, the last few kept.

    <root>/batch-000012/state.pt        torch.save of Algorithm.state_dict()
    <root>/batch-000012/manifest.json   SHA-256 and size of state.pt

A checkpoint is written under a temporary name, synced and renamed, so a folder that carries its final name is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from langptune.errors import FailedPrecondition

_PREFIX, _TEMPORARY = "batch-", ".writing"


def save_checkpoint(root: Path, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write `state`, named by its `done`, and delete all but the newest `keep`. Errors of the file system pass through."""
    folder = root / f"{_PREFIX}{state['done']:06d}"
    writing = folder.with_suffix(_TEMPORARY)
    for left_over in (*root.glob(f"*{_TEMPORARY}"), folder):
        shutil.rmtree(left_over, ignore_errors=True)
    writing.mkdir(parents=True)
    torch.save(dict(state), writing / "state.pt")
    manifest = {"sha256": _sha256(writing / "state.pt"), "bytes": (writing / "state.pt").stat().st_size}
    (writing / "manifest.json").write_text(json.dumps(manifest))
    for path in (writing / "state.pt", writing / "manifest.json", writing):
        _sync(path)
    writing.rename(folder)
    _sync(root)
    for old in _newest_first(root)[keep:]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(root: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; None if there is none at all. Raises FailedPrecondition if all of them are damaged."""
    folders = _newest_first(root)
    for folder in folders:
        if _is_whole(folder):
            state: dict[str, Any] = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
            return state
    if folders:
        raise FailedPrecondition(f"all {len(folders)} checkpoints in {root} are damaged", reason="DAMAGED_CHECKPOINT")
    return None


def _newest_first(root: Path) -> list[Path]:
    return sorted((path for path in root.glob(f"{_PREFIX}*") if path.suffix != _TEMPORARY), reverse=True)


def _is_whole(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return bool(manifest["sha256"] == _sha256(folder / "state.pt"))
    except (OSError, ValueError, KeyError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
