"""A version's index built in a process of its own: it embeds and writes what it is sent, takes it into the graph, and verifies.

The serving process sends the items, so the catalogue keeps its one opener; the builder is the one opener of the new index until
it ends. Every batch it has answered for survives a kill of either process, and a further build goes on from there. The builder
dies with the process that started it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from google.rpc import status_pb2

from langptune.domain import Item
from langptune.errors import LangPTuneError, Unavailable, from_status, to_status
from langptune.rpc.logs import configure_logs
from services.decoder.catalogue import catalogue_entry
from services.decoder.embedder import Embedder
from services.decoder.engines import open_engine
from services.decoder.resident import ResidentVersion
from services.decoder.settings import DecoderSettings
from services.decoder.soundness import check_graph
from services.decoder.threads import set_threads
from services.decoder.worker import EmbeddingWorker

_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_END_WAIT = 10.0  # seconds that a killed builder gets to be gone


@dataclass(frozen=True, slots=True)
class Job:
    """What is built."""

    settings: DecoderSettings
    version: str
    model: str  # folder or hub id of the embedder
    index_name: str


class Builder:
    """The other process, seen from the serving one. `async with` starts it and makes sure that it ends."""

    def __init__(self, job: Job) -> None:
        self._ours, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=_main, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.join, _END_WAIT)
        self._ours.close()

    async def embed(self, items: Sequence[Item]) -> None:
        """Embed and write items; they survive a kill when this returns. Raises what went wrong there."""
        await self._ask(list(items))

    async def finish(self) -> None:
        """Take everything into the graph, verify, and let go of the index. Raises FailedPrecondition for a graph that is bad."""
        await self._ask(None)

    async def _ask(self, message: list[Item] | None) -> None:
        answer = await asyncio.to_thread(self._exchange, message)
        if answer:
            raise from_status(status_pb2.Status.FromString(answer))

    def _exchange(self, message: list[Item] | None) -> bytes:
        try:
            self._ours.send(message)
            return self._ours.recv_bytes()
        except (EOFError, OSError) as error:
            raise Unavailable(
                "the process that builds the index has died; load the version again", reason="BUILD_DIED"
            ) from error


def _main(requests: Connection, job: Job) -> None:
    """The builder process."""
    _die_with_parent()
    os.nice(job.settings.decoder_build_niceness)
    configure_logs("decoder-build", job.settings.log_level)
    set_threads(job.settings.torch_threads)
    asyncio.run(_serve(requests, job))


async def _serve(requests: Connection, job: Job) -> None:
    """Answer each request with nothing, or with the status of the error that ends the build."""
    try:
        devices = job.settings.decoder_build_devices or (job.settings.decoder_device,)
        worker = EmbeddingWorker(*(Embedder.load(job.model, job.settings, device) for device in devices))
        engine = open_engine(job.settings)
        index = await engine.open(job.index_name, worker.dimensions)
        building = ResidentVersion(job.version, worker, index, 0, job.settings.layout())
        while (items := requests.recv()) is not None:
            await index.put(await building.embed(list(map(catalogue_entry, items))))
            requests.send_bytes(b"")
        await index.flush()
        if job.settings.layout().graph:
            await index.optimise()
            await check_graph(index)
        await building.close()
        await engine.close()
        requests.send_bytes(b"")
    except LangPTuneError as error:
        requests.send_bytes(to_status(error).SerializeToString())
    except EOFError:
        return  # the serving process is gone


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
