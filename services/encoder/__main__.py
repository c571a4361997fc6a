"""`python -m services.encoder` serves; with --print-config it shows the resolved settings instead."""

from __future__ import annotations

import argparse
import sys

from services.encoder.settings import EncoderSettings


def main() -> None:
    """Ends with code 2 and a sentence on a bad setting, a taken port or a missing model."""
    parser = argparse.ArgumentParser(prog="python -m services.encoder", description="The profile encoder service.")
    parser.add_argument("--print-config", action="store_true", help="show the resolved settings and end")
    arguments = parser.parse_args()
    settings = EncoderSettings.load()
    if arguments.print_config:
        sys.stdout.write(settings.describe() + "\n")
        return
    from langptune.rpc import run  # torch and gRPC are not needed to show the settings
    from services.encoder.server import EncoderService

    run(settings, EncoderService(settings), settings.encoder_port, metrics_port=settings.encoder_metrics_port)


if __name__ == "__main__":
    main()
