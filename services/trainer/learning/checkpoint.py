"""Checkpoints of a run: one folder each, complete or not there, verified when read; the newest few and the best are kept.

    <root>/batch-000012/<part>.pt        torch.save of one part of the state: run, policy, embedder, random
    <root>/batch-000012/manifest.json    batches done, the score, and SHA-256 and size of every other file

A checkpoint is filled under a temporary name, synced and renamed, so a folder that carries its final name is complete. Several
processes can fill one together: one of them calls `begin`, each writes files of its own into the folder (`write_part`, or
whatever its library writes), and when all are done the one calls `seal`. What the parts mean is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch

from langptune.errors import FailedPrecondition

log = structlog.get_logger(__name__)

_PREFIX, _UNFINISHED, _MANIFEST, _PART = "batch-", ".unfinished", "manifest.json", ".pt"


class Checkpoints:
    """The checkpoints of one run. Errors of the file system pass through."""

    def __init__(self, root: Path, keep: int = 2) -> None:
        self.root = root
        self.keep = keep  # the newest this many; the best is kept besides

    def save(self, done: int, parts: Mapping[str, Any], score: float | None = None) -> Path:
        """Write one whole checkpoint: `begin`, every part, `seal`."""
        folder = self.begin(done)
        for name, part in parts.items():
            write_part(folder, name, part)
        return self.seal(folder, done, score)

    def begin(self, done: int) -> Path:
        """An empty folder for the checkpoint after `done` batches. What a killed writer left goes."""
        for left_over in self.root.glob(f"*{_UNFINISHED}"):
            shutil.rmtree(left_over, ignore_errors=True)
        folder = self.root / f"{_PREFIX}{done:06d}{_UNFINISHED}"
        folder.mkdir(parents=True)
        return folder

    def seal(self, folder: Path, done: int, score: float | None = None) -> Path:
        """Make what `begin` gave, now filled, a checkpoint; the higher its `score`, the better. Returns its final folder."""
        files = {
            path.relative_to(folder).as_posix(): {"sha256": _sha256(path), "bytes": path.stat().st_size}
            for path in _files(folder)
        }
        (folder / _MANIFEST).write_text(json.dumps({"done": done, "score": score, "files": files}, indent=1))
        for path in (*folder.rglob("*"), folder):
            _sync(path)
        final = folder.with_suffix("")
        self._remove(final)
        folder.rename(final)
        _sync(self.root)
        best = next(iter(self._best_first()), None)
        for old in self._newest_first()[self.keep :]:
            if old != best:
                self._remove(old)
        return final

    def newest(self) -> Path | None:
        """The newest checkpoint that is whole, None if there is none; damaged ones are logged and passed over.

        Raises FailedPrecondition, reason DAMAGED_CHECKPOINT, if all of them are damaged.
        """
        folders = self._newest_first()
        for folder in folders:
            if damage := _damage(folder):
                log.warning("checkpoint is damaged", folder=str(folder), damage=damage)
            else:
                return folder
        if folders:
            raise FailedPrecondition(f"all {len(folders)} checkpoints in {self.root} are damaged", reason="DAMAGED_CHECKPOINT")
        return None

    def load(self) -> dict[str, Any] | None:
        """The parts of the newest checkpoint that is whole; None and FailedPrecondition as `newest`."""
        folder = self.newest()
        return None if folder is None else {path.stem: read_part(folder, path.stem) for path in folder.glob(f"*{_PART}")}

    def rewind_to_best(self) -> int:
        """Remove the checkpoints newer than the best; returns the batches done at what is now the newest, 0 without any."""
        best = next((folder for folder in self._best_first() if not _damage(folder)), None)
        for folder in self._newest_first():
            if folder == best:
                return int(_manifest(folder)["done"])
            self._remove(folder)
        return 0

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _best_first(self) -> list[Path]:
        """By score, among equals the newest first; without a score is below any score. Those without a manifest do not count."""
        return sorted((path for path in self._newest_first() if (path / _MANIFEST).is_file()), key=_score, reverse=True)

    def _newest_first(self) -> list[Path]:
        return sorted((path for path in self.root.glob(f"{_PREFIX}*") if path.suffix != _UNFINISHED), reverse=True)

    def _remove(self, folder: Path) -> None:
        """In such a way that no half of it is ever taken for a checkpoint."""
        if folder.exists():
            shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}-removed{_UNFINISHED}")))


def write_part(folder: Path, name: str, part: Any) -> None:
    """One part of a checkpoint that is being filled: tensors and plain values."""
    torch.save(part, folder / f"{name}{_PART}")


def read_part(folder: Path, name: str) -> Any:
    """One part of a checkpoint, its tensors on the CPU."""
    return torch.load(folder / f"{name}{_PART}", map_location="cpu", weights_only=True)


def _damage(folder: Path) -> str:
    """What is wrong with a checkpoint; "" if it is whole."""
    try:
        for name, expected in _manifest(folder)["files"].items():
            if _sha256(folder / name) != expected["sha256"]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return repr(error)
    return ""


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text())
    return manifest


def _score(folder: Path) -> float:
    try:
        score = _manifest(folder)["score"]
    except (ValueError, KeyError):
        score = None
    return float("-inf") if score is None else float(score)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


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
