"""TLS from files, for servers and channels: certificate, key and the authority that the other side must be signed by.

Files are looked at again for every new connection of a server and, every few seconds, for the calls of a channel, so that a
rotated certificate is taken up without a restart. A pair that does not fit yet, in the middle of a rotation, is left for later.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from langptune.errors import FailedPrecondition
from langptune.settings import ServiceSettings

log = structlog.get_logger(__name__)

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files; "" for none. A server needs certificate and key; `authority` makes it ask its callers for theirs.

    A channel needs none of them: without `authority` it trusts the public ones, without `certificate` it shows none.
    """

    certificate: str = ""
    key: str = ""
    authority: str = ""

    def stamp(self) -> Stamp:
        """Changes when a file is replaced. Raises OSError."""
        return tuple(Path(path).stat().st_mtime_ns for path in self._paths())

    def check(self) -> None:
        """Raises FailedPrecondition for a file that cannot be read, or a key that is not the certificate's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key, password="")  # asks nobody for a passphrase
            if self.authority:
                context.load_verify_locations(self.authority)
        except OSError as error:  # ssl.SSLError is one
            named = ", ".join(self._paths())
            raise FailedPrecondition(f"TLS: {named} do not serve: {error.strerror or error}", reason="TLS") from None

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a listening address. Raises FailedPrecondition as `check` does."""
        self.check()
        seen = self.stamp()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal seen
            try:
                now = self.stamp()
                if now == seen:
                    return None
                self.check()
            except (OSError, FailedPrecondition) as error:
                log.warning("the new certificate is not taken up yet", error=str(error))
                return None
            seen = now
            log.info("certificate taken up", certificate=self.certificate)
            return self._configuration()

        return grpc.dynamic_ssl_server_credentials(self._configuration(), fetch, bool(self.authority))

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel. Raises FailedPrecondition as `check` does."""
        self.check()
        pair = (_read(self.key), _read(self.certificate)) if self.certificate else (None, None)
        return grpc.ssl_channel_credentials(_read(self.authority) if self.authority else None, *pair)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        authority = _read(self.authority) if self.authority else None
        return grpc.ssl_server_certificate_configuration([(_read(self.key), _read(self.certificate))], authority)

    def _paths(self) -> list[str]:
        return [path for path in (self.certificate, self.key, self.authority) if path]


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def peer_tls(settings: ServiceSettings) -> Tls | None:
    """What this process shows to other services, and asks of them; None: plain connections."""
    return _tls(settings.peer_files)


def door_tls(settings: ServiceSettings) -> Tls | None:
    """What this process shows to those who call it, and asks of them."""
    return _tls(settings.door_files)


def _tls(files: tuple[str, str, str]) -> Tls | None:
    return Tls(*files) if files[0] else None
