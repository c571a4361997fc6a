"""`python -m services.decoder [--print-config]`."""

from __future__ import annotations

import argparse
import sys

from services.decoder.settings import DecoderSettings


def main() -> None:
    """Serve until SIGTERM, or show the settings."""
    parser = argparse.ArgumentParser(prog="python -m services.decoder", description="The recommender decoder service.")
    parser.add_argument("--print-config", action="store_true", help="show the resolved settings and end")
    wants_config = parser.parse_args().print_config
    settings = DecoderSettings.load()
    if wants_config:
        sys.stdout.write(settings.describe() + "\n")
        return
    from langptune.rpc import run
    from services.decoder.server import DecoderService  # torch comes with it, so not before it is needed

    run(settings, DecoderService(settings), settings.decoder_port, metrics_port=settings.decoder_metrics_port)


if __name__ == "__main__":
    main()
