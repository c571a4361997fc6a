"""`python -m services.gateway [--print-config]` starts the gateway, or shows its resolved settings with secrets masked."""

from __future__ import annotations

import argparse
import asyncio
import sys

from services.gateway.settings import GatewaySettings


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description="The public face of LangPTune.")
    parser.add_argument("--print-config", action="store_true", help="show the resolved settings as JSON and end")
    arguments = parser.parse_args()
    settings = GatewaySettings.load()
    if arguments.print_config:
        sys.stdout.write(settings.describe() + "\n")
        return
    from langptune.rpc import run  # gRPC is not needed to show the settings
    from services.gateway.server import Gateway

    stopping = asyncio.Event()
    gateway = Gateway(settings, stopping)
    run(
        settings,
        gateway,
        settings.gateway_port,
        metrics_port=settings.gateway_metrics_port,
        stopping=stopping,
        interceptors=gateway.interceptors,
    )


if __name__ == "__main__":
    main()
