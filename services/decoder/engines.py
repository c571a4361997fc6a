"""Which index engine the settings ask for. For the service and for the process that builds a version."""

from __future__ import annotations

from services.decoder.filters import FilterFields
from services.decoder.index import Engine
from services.decoder.index.edge import EdgeEngine
from services.decoder.settings import DecoderSettings


def open_engine(settings: DecoderSettings) -> Engine:
    """A Qdrant server where one is named, else the embedded engine. Raises FailedPrecondition for an unusable data folder."""
    layout, fields = settings.layout(), FilterFields(settings.decoder_filterable_fields).kinds
    if not settings.qdrant_url:
        return EdgeEngine(settings.decoder_data, settings.decoder_min_free_disk, layout, fields)
    from services.decoder.index.server import ServerEngine  # its client takes a second to import

    return ServerEngine.connect(
        settings.qdrant_url,
        grpc_port=settings.qdrant_grpc_port,
        api_key=settings.qdrant_api_key.get_secret_value() or None,
        deadline=settings.qdrant_timeout,
        tries=settings.qdrant_tries,
        layout=layout,
        fields=fields,
        prefix=settings.qdrant_prefix,
    )
