"""The weights store: immutable versions of encoder and decoder under one root, on any fsspec file system.

    <root>/<encoder|decoder>/<version>/   the model in its ordinary Hugging Face or sentence-transformers folder format
                            manifest.json written last; without it the version does not exist

A *base version* has a manifest and no files: it names a model folder or hub id in `base_model`. What a version means never
changes: its id is derived from its content. What `add` and `ensure_base` have returned is durable: on a local disk every file and
folder is fsynced before the manifest appears; an object store acknowledges a whole object or none. Nothing here loads a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import fsspec

from langptune.convert import check_id
from langptune.errors import FailedPrecondition, NotFound
from langptune.text import TEMPLATE_HASH
from langptune.weights.golden import Golden

Kind = Literal["encoder", "decoder"]
KINDS: tuple[Kind, Kind] = ("encoder", "decoder")
_MANIFEST = "manifest.json"
_FINGERPRINTED = ("config.json", "model.safetensors", "modules.json", "tokenizer.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a weights version is made of and where it comes from."""

    version: str
    kind: Kind
    base_model: str  # folder or hub id that training started from
    parent: str = ""  # the version that this one was trained from
    job_id: str = ""
    template_hash: str = TEMPLATE_HASH  # the text forms it was trained with
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # relative path -> SHA-256
    golden: Golden | None = None  # of an encoder version that a job made

    @property
    def is_base(self) -> bool:
        """Whether it names a model that lies elsewhere."""
        return not self.files

    @property
    def digest(self) -> str:
        """One SHA-256 for all files; "" for a base version."""
        return files_digest(self.files) if self.files else ""


class WeightsStore:
    """Reads and writes versions below `uri`; `cache` holds local copies of a remote store's files."""

    def __init__(self, uri: str, cache: str | Path) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        self._local = "file" in self._fs.protocol
        self._cache = Path(cache)

    def ensure_base(self, kind: Kind, model: str) -> Manifest:
        """The base version of `model`, registered on first use. A folder that was moved since is registered where it is now.

        Raises FailedPrecondition for a folder that holds no model, and for a store that cannot be written.
        """
        manifest = Manifest(version=f"base-{_fingerprint(model)}", kind=kind, base_model=model)
        with self._writing():
            if not self._exists(kind, manifest.version) or _is_gone(self.manifest(kind, manifest.version).base_model):
                self._write_manifest(manifest)
        return self.manifest(kind, manifest.version)

    def add(self, folder: str | Path, manifest: Manifest) -> Manifest:
        """Store a complete model folder as a new version and return its manifest; the version id is derived from the files.

        Adding the same files twice is the same version, stored once. Raises FailedPrecondition for a store that cannot be
        written.
        """
        source = Path(folder)
        files = {path.relative_to(source).as_posix(): _sha256(path) for path in sorted(source.rglob("*")) if path.is_file()}
        version = f"{manifest.version}-{_digest(json.dumps(files, sort_keys=True))}" if manifest.version else _digest(str(files))
        complete = replace(manifest, version=check_id("version", version), files=files)
        if self._exists(manifest.kind, version):
            return self.manifest(manifest.kind, version)
        target = self._path(manifest.kind, version)
        with self._writing():
            for name in files:
                self._put(source / name, f"{target}/{name}")
            self._sync_folders(target, files)
            self._write_manifest(complete)
        return complete

    def manifest(self, kind: Kind, version: str) -> Manifest:
        """Raises NotFound."""
        check_id(f"{kind}_version", version)
        try:
            return _manifest_from(json.loads(self._fs.cat_file(f"{self._path(kind, version)}/{_MANIFEST}")))
        except FileNotFoundError:
            raise NotFound(f"{kind} version", version) from None

    def local_path(self, kind: Kind, version: str) -> str:
        """A verified local folder with the version's files, or the base model's folder or hub id.

        Raises NotFound, and FailedPrecondition when a file is missing or is not what the manifest says. A local copy of a remote
        store's version that has gone bad is fetched again, once.
        """
        manifest = self.manifest(kind, version)
        if manifest.is_base:
            return manifest.base_model
        folder = Path(self._path(kind, version)) if self._local else self._download(manifest)
        bad = _bad_file(folder, manifest)
        if bad and not self._local:
            shutil.rmtree(folder, ignore_errors=True)
            folder = self._download(manifest)
            bad = _bad_file(folder, manifest)
        if bad:
            message = f"{kind} version {version}: {bad} is missing or not the file that was published"
            raise FailedPrecondition(message, reason="WEIGHTS_CORRUPT")
        return str(folder)

    def deployed_digest(self, kind: Kind, version: str) -> str:
        """The digest of the version's files as they lie on this machine now, read anew; "" for a base version.

        Equal to the manifest's `digest` if and only if every file is what was published. Raises NotFound, and FailedPrecondition
        for a base model whose folder is no longer what it was registered as.
        """
        manifest = self.manifest(kind, version)
        if manifest.is_base:
            if f"base-{_fingerprint(manifest.base_model)}" != version:
                message = f"{kind} version {version}: {manifest.base_model} has changed since it was registered"
                raise FailedPrecondition(message, reason="WEIGHTS_CORRUPT")
            return ""
        folder = Path(self._path(kind, version)) if self._local else self._download(manifest)
        return files_digest({name: _sha256(folder / name) for name in manifest.files if (folder / name).is_file()})

    def versions(self, kind: Kind) -> list[str]:
        """All complete versions, sorted by id."""
        found = self._fs.glob(f"{self._root}/{kind}/*/{_MANIFEST}")
        return sorted(path.rsplit("/", 2)[-2] for path in found)

    def remove(self, kind: Kind, version: str) -> None:
        """Forget a version, the manifest first. Idempotent. The caller knows that nothing names it."""
        path = self._path(kind, check_id("version", version))
        if self._exists(kind, version):
            self._fs.rm_file(f"{path}/{_MANIFEST}")
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)
        if not self._local:
            shutil.rmtree(self._cache / kind / version, ignore_errors=True)

    def _path(self, kind: Kind, version: str) -> str:
        return f"{self._root}/{kind}/{version}"

    def _exists(self, kind: Kind, version: str) -> bool:
        return bool(self._fs.exists(f"{self._path(kind, version)}/{_MANIFEST}"))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"the weights store {self._root} cannot be written: {error.strerror or error}"
            raise FailedPrecondition(message, reason="STORAGE") from error

    def _put(self, source: Path, target: str) -> None:
        self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(str(source), target)
        if self._local:
            _sync(Path(target))

    def _sync_folders(self, target: str, files: Mapping[str, str]) -> None:
        """The names of the files, too, survive a power failure: their folders up to the store's root."""
        if self._local:
            folders = {parent for name in files for parent in Path(target, name).parents if parent.is_relative_to(self._root)}
            for folder in sorted(folders, reverse=True):
                _sync(folder)

    def _write_manifest(self, manifest: Manifest) -> None:
        target = self._path(manifest.kind, manifest.version)
        content = json.dumps(asdict(manifest), indent=2).encode()
        self._fs.makedirs(target, exist_ok=True)
        if not self._local:
            self._fs.pipe_file(f"{target}/{_MANIFEST}", content)  # one object appears whole or not at all
            return
        partial = Path(target, f"{_MANIFEST}.{uuid.uuid4().hex}.partial")  # its own: services register a base at the same time
        partial.write_bytes(content)
        _sync(partial)
        partial.replace(Path(target, _MANIFEST))
        self._sync_folders(target, {_MANIFEST: ""})

    def _download(self, manifest: Manifest) -> Path:
        folder = self._cache / manifest.kind / manifest.version
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=folder.parent))
            for name in manifest.files:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(f"{self._path(manifest.kind, manifest.version)}/{name}", str(partial / name))
            if folder.is_dir():
                shutil.rmtree(partial)
            else:
                partial.rename(folder)
        return folder


def files_digest(files: Mapping[str, str]) -> str:
    """One SHA-256 over names and their SHA-256 sums, in the order of the names."""
    return hashlib.sha256("".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()).hexdigest()


def _manifest_from(stored: dict[str, Any]) -> Manifest:
    golden = stored.pop("golden", None)
    return Manifest(**stored, golden=Golden(**golden) if golden else None)


def _bad_file(folder: Path, manifest: Manifest) -> str:
    """The first file that is not what the manifest says; "" for none."""
    for name, expected in manifest.files.items():
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            return name
    return ""


def _fingerprint(model: str) -> str:
    """12 hex digits that change with the model: of a folder's files, else of the hub id."""
    folder = Path(model)
    if not folder.is_dir():
        if folder.is_absolute() or model.startswith("."):
            raise FailedPrecondition(f"the model folder {model} does not exist", reason="MODEL_MISSING")
        return _digest(model)
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise FailedPrecondition(f"{model} is no model folder: it has no config.json", reason="MODEL_MISSING")
    present = [folder / name for name in _FINGERPRINTED if (folder / name).is_file()]
    return _digest(" ".join(_sha256(path) for path in present))


def _is_gone(model: str) -> bool:
    """Whether `model` was an absolute folder that is no longer there; a hub id never is."""
    return Path(model).is_absolute() and not Path(model).is_dir()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
