"""What every command shares: where the gateway is, tables or JSON on standard output, progress and errors on standard error."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from langptune.errors import (
    Aborted,
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    LangPTuneError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from langptune.client import LangPTune

ResultT = TypeVar("ResultT")

GatewayOption = Annotated[
    str, typer.Option("--gateway", metavar="HOST:PORT", envvar="LANGPTUNE_GATEWAY", help="Address of the gateway.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
TOKEN = "LANGPTUNE_TOKEN"  # the environment, not an option: other users of a machine see a command's arguments
AUTHORITY = "LANGPTUNE_GATEWAY_AUTHORITY"  # a PEM file, or "public": the gateway is called over TLS
DEFAULT_GATEWAY = "127.0.0.1:50051"
MAX_SEED = 2**32 - 1
MAX_COUNT = 1_000_000_000

console = Console()
messages = Console(stderr=True)


def connect(address: str) -> LangPTune:
    """A client of the gateway at `address`, with what LANGPTUNE_TOKEN and LANGPTUNE_GATEWAY_AUTHORITY hold.

    Raises InvalidArgument for no HOST:PORT, FailedPrecondition for an authority that cannot be read.
    """
    from langptune.client import LangPTune, Tls

    authority = os.environ.get(AUTHORITY, "")
    tls = Tls(authority="" if authority == "public" else authority) if authority else None
    return LangPTune(check_address("--gateway", address), token=os.environ.get(TOKEN, "").strip(), tls=tls)


def check_address(option: str, address: str) -> str:
    """`address` if it is HOST:PORT. Raises InvalidArgument."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise InvalidArgument(option, f"must be HOST:PORT, not {address!r}")
    return address


def run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run `work` to its end; SIGTERM cancels it, as Ctrl-C does, so that what it has started is stopped in order."""

    async def body() -> ResultT:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(body())
    except asyncio.CancelledError:
        raise Cancelled("stopped by a signal") from None


def print_json(value: Any) -> None:
    """A dataclass, mapping or list as JSON on standard output."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def fail(error: LangPTuneError) -> NoReturn:
    """Say what is wrong in one sentence (or one JSON object where --json was asked for) and exit with 1."""
    if "--json" in sys.argv:
        told = {"code": error.code.name, "message": error.message, "reason": error.reason, **error.metadata}
        sys.stderr.write(json.dumps({"error": told}) + "\n")
    else:
        hint = _hint(error)
        messages.print(
            f"[bold red]error:[/] {_escaped(error.message)}{f' ({hint})' if hint else ''}", soft_wrap=True, highlight=False
        )
    raise SystemExit(1)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Bars on standard error that vanish when done; nothing where that is no terminal, or `quiet`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=messages, transient=True, disable=quiet or not messages.is_terminal) as bars:
        yield bars


def phase_bars(bars: Progress, label: str) -> Callable[[str, int, int], None]:
    """Told (phase, done, total), shows one bar per phase."""
    tasks: dict[str, TaskID] = {}

    def show(phase: str, done: int, total: int) -> None:
        if phase not in tasks:
            tasks[phase] = bars.add_task(f"{label} {phase}", total=total, note="")
        bars.update(tasks[phase], completed=done, total=total)

    return show


def _hint(error: LangPTuneError) -> str:
    if isinstance(error, Unavailable) and not error.reason:
        return "is the gateway up? start it with `langptune up`, or name it with --gateway"
    if isinstance(error, DeadlineExceeded):
        return "the log of the service says what it was busy with"
    if isinstance(error, Unauthenticated | PermissionDenied):
        return f"put a token into {TOKEN}; `langptune token` makes one for development"
    if isinstance(error, Aborted):
        return "somebody else was first: read it again, then retry"
    return ""


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
