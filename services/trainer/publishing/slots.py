"""Blue and green: two places for an engine that loads its weights only when it starts (text-generation-inference).

A release whose encoder version no slot serves is brought up in the slot that answers nobody; the encoder finds it there, checks
its tokens and its golden log-prob, and sends it the calls that name the version. The other slot is stopped once it has drained.
Which slot serves what is asked of the slots themselves, so a trainer that dies leaves nothing that the next one must remember.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import structlog

from langptune.errors import FailedPrecondition
from langptune.weights import WeightsStore
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)

_POLL = 0.1  # seconds between two looks at a slot that comes up; grows to the next
_LONGEST_POLL = 2.0


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one server."""

    name: str
    model: str  # folder or hub id that it was told to serve; "" when it is stopped
    problem: str = ""  # half a sentence on why it will not serve it: "ended with exit code 1"

    def serves(self, names: frozenset[str]) -> bool:
        """Whether the encoder finds one of these versions here: by the whole model id, or by its last part."""
        return bool({self.model, self.model.rstrip("/").rpartition("/")[2]} & names)


class SlotLauncher(Protocol):
    """Two implementations: `local_slots`, `kubernetes_slots`. Methods raise Unavailable while the slots cannot be asked."""

    async def start(self) -> None:
        """Before everything else. Raises FailedPrecondition."""

    async def close(self) -> None:
        """The slots go on."""

    async def slots(self) -> list[Slot]:
        """All of them, always in the same order."""

    async def bring_up(self, name: str, model: str) -> None:
        """Have the slot serve `model` whatever it did before. Returns at once; it takes minutes until it serves."""

    async def stop(self, name: str) -> None:
        """Idempotent."""


class Slots:
    """Which version goes where."""

    def __init__(self, launcher: SlotLauncher, store: WeightsStore, settings: TrainerSettings) -> None:
        self._launcher = launcher
        self._store = store
        self._root = (settings.tgi_weights_path or settings.weights_uri).rstrip("/")
        self._timeout = settings.load_timeout

    async def prepare(self, version: str, keep: Collection[str]) -> None:
        """Have a slot serve `version`, or be on its way; never one that serves a version in `keep`.

        Raises FailedPrecondition NO_FREE_SLOT.
        """
        wanted = await self._names(version)
        kept = frozenset[str]().union(*[await self._names(each) for each in keep])
        slots = await self._launcher.slots()
        if any(slot.serves(wanted) and not slot.problem for slot in slots):
            return
        free = [slot for slot in slots if not slot.serves(kept)]
        if not free:
            busy = ", ".join(f"{slot.name} serves {slot.model}" for slot in slots)
            raise FailedPrecondition(f"no slot is free for encoder version {version}: {busy}", reason="NO_FREE_SLOT")
        chosen = min(free, key=lambda slot: (not slot.serves(wanted), slot.model != ""))  # it failed at it, or else is stopped
        model = await self._model(version)
        if chosen.problem:
            await self._launcher.stop(chosen.name)  # a new start, where asking for the same again would change nothing
        log.info("slot comes up", slot=chosen.name, version=version, model=model)
        await self._launcher.bring_up(chosen.name, model)

    async def until_served(self, version: str, load: Callable[[], Awaitable[None]]) -> None:
        """Repeat `load` until the encoder finds the slot of `version`. Raises what `load` raises, and SLOT_FAILED."""
        end, pause = time.monotonic() + self._timeout, _POLL
        while True:
            try:
                return await load()
            except FailedPrecondition as error:
                if error.reason != "VERSION_NOT_SERVED" or time.monotonic() > end:
                    raise
            await self._check(version)
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_POLL)

    async def retire(self, keep: Collection[str]) -> None:
        """Stop the slots that serve none of the versions in `keep`."""
        kept = frozenset[str]().union(*[await self._names(each) for each in keep])
        for slot in await self._launcher.slots():
            if slot.model and not slot.serves(kept):
                log.info("slot stops", slot=slot.name, model=slot.model)
                await self._launcher.stop(slot.name)

    async def _check(self, version: str) -> None:
        wanted = await self._names(version)
        for slot in await self._launcher.slots():
            if slot.serves(wanted) and slot.problem:
                message = f"slot {slot.name}, which was to serve encoder version {version}, {slot.problem}"
                raise FailedPrecondition(message, reason="SLOT_FAILED")

    async def _model(self, version: str) -> str:
        """What TGI is started with, for its merged weights or for a base model."""
        manifest = await asyncio.to_thread(self._store.manifest, "encoder", version)
        return manifest.base_model if manifest.is_base else f"{self._root}/encoder/{version}"

    async def _names(self, version: str) -> frozenset[str]:
        """What stands for a version in a model id: its own id, and for a base version the base model's."""
        manifest = await asyncio.to_thread(self._store.manifest, "encoder", version)
        return frozenset({version, manifest.base_model} if manifest.is_base else {version})
