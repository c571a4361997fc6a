"""`python -m services.trainer` serves; with --print-config it shows the resolved settings instead."""

from __future__ import annotations

import argparse
import sys

from services.trainer.server import serve
from services.trainer.settings import TrainerSettings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.trainer", description="Training jobs and releases over gRPC.")
    parser.add_argument("--print-config", action="store_true", help="show the resolved settings and end")
    arguments = parser.parse_args()
    settings = TrainerSettings.load()
    if arguments.print_config:
        sys.stdout.write(settings.describe() + "\n")
        return
    serve(settings)


if __name__ == "__main__":
    main()
