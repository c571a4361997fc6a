"""`langptune`: the command line. `main` is the entry point; what a command needs is imported when it runs."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process. Errors of ours end it with exit code 1 and a sentence, never a trace."""
    from langptune.cli.app import app
    from langptune.cli.output import fail
    from langptune.errors import LangPTuneError

    try:
        app()
    except LangPTuneError as error:
        fail(error)


__all__ = ["main"]
