"""Whether what a replica serves is what was published: files, golden log-prob, and sampled rankings, each replica by itself.

A base version names a model that no job made: there is no golden log-prob to hold it against, so its replicas are held against
one another.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from langptune.errors import FailedPrecondition, NotFound
from langptune.weights import ANY_TEXT, KINDS, Golden, Kind, Manifest, Release, WeightsStore
from services.trainer.publishing.replicas import Found, Replica, Replicas
from services.trainer.settings import TrainerSettings


@dataclass(frozen=True, slots=True)
class Check:
    """One replica, held against the manifest."""

    kind: Kind
    address: str
    version: str
    found: Found
    expected_log_prob: float | None = None  # nats; None for a base version and for the decoder
    problems: tuple[str, ...] = ()


class Verifier:
    """Asks every replica."""

    def __init__(self, replicas: Replicas, store: WeightsStore, settings: TrainerSettings) -> None:
        self._replicas = replicas
        self._store = store
        self._settings = settings

    async def verify(self, release: Release) -> list[Check]:
        """A check for every replica of both services. Raises NotFound for a version that the store does not have."""
        found = await asyncio.gather(*(self._verify(kind, release.version(kind)) for kind in KINDS))
        return [check for checks in found for check in checks]

    async def require(self, release: Release) -> None:
        """Raises FailedPrecondition, VERIFICATION_FAILED, with the first problem; what a replica raises passes through."""
        for check in await self.verify(release):
            if check.problems:
                message = f"the {check.kind} at {check.address}, version {check.version}: {check.problems[0]}"
                raise FailedPrecondition(message, reason="VERIFICATION_FAILED", metadata={"address": check.address})

    async def _verify(self, kind: Kind, version: str) -> list[Check]:
        manifest = await asyncio.to_thread(self._store.manifest, kind, version)
        replicas = await self._replicas.of(kind)
        checks = await asyncio.gather(*(self._check(replica, manifest) for replica in replicas))
        return self._agree(checks) if kind == "encoder" and manifest.golden is None else list(checks)

    async def _check(self, replica: Replica, manifest: Manifest) -> Check:
        expected = manifest.golden.log_prob if manifest.golden else None
        try:
            found = await replica.verify(manifest.version, manifest.golden or ANY_TEXT)
        except NotFound:
            problems: tuple[str, ...] = ("the version is not loaded",)
            return Check(replica.kind, replica.address, manifest.version, Found(""), expected, problems)
        except FailedPrecondition as error:
            return Check(replica.kind, replica.address, manifest.version, Found(""), expected, (error.message,))
        problems = tuple(self._problems(manifest, found))
        return Check(replica.kind, replica.address, manifest.version, found, expected, problems)

    def _problems(self, manifest: Manifest, found: Found) -> list[str]:
        said = [] if found.digest == manifest.digest else ["its files are not those that were published"]
        if manifest.kind == "decoder":
            if found.items != found.catalogue_items:
                said.append(f"its index holds {found.items:,} of {found.catalogue_items:,} items")
            if found.overlap is not None and found.overlap < self._settings.min_overlap:
                said.append(f"exact ranking confirms {found.overlap:.2f} of its sampled rankings")
        elif manifest.golden and found.golden_log_prob is not None:
            said += self._off(manifest.golden, found.golden_log_prob)
        return said

    def _off(self, golden: Golden, log_prob: float) -> list[str]:
        deviation = golden.deviation(log_prob)
        if deviation <= self._settings.golden_tolerance:
            return []
        return [f"the golden log-prob is {log_prob:.4f}, not {golden.log_prob:.4f} ({deviation:.3g} nats per token off)"]

    def _agree(self, checks: list[Check]) -> list[Check]:
        """The log-prob of the first replica that answered stands in for the manifest's."""
        answered = [check.found.golden_log_prob for check in checks if check.found.golden_log_prob is not None]
        if not answered:
            return checks
        first = replace(ANY_TEXT, log_prob=answered[0])
        return [
            replace(check, problems=(*check.problems, *self._off(first, check.found.golden_log_prob)))
            if check.found.golden_log_prob is not None
            else check
            for check in checks
        ]
