"""Certificates for tests of TLS, as PEM files: an authority, what it signs, and what it signed long ago."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import trustme

from langptune.rpc.tls import Tls


class Authority:
    """A certificate authority with its files in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.file = str(folder / f"{name}.pem")
        self._authority.cert_pem.write_to_path(self.file)

    def spoil(self, file: str) -> None:
        """Leave half a file, as in the middle of a rotation."""
        path = Path(file)
        path.write_bytes(path.read_bytes()[:100])

    def issue(self, name: str, *hosts: str, expired: bool = False) -> Tls:
        """A certificate for `hosts` (localhost and 127.0.0.1 if none), and this authority to check the other side by."""
        certificate, key = (self._folder / f"{name}.{kind}.pem" for kind in ("certificate", "key"))
        end = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
        start = datetime(2019, 1, 1, tzinfo=UTC) if expired else None
        issued = self._authority.issue_cert(*(hosts or ("localhost", "127.0.0.1")), not_after=end, not_before=start)
        key.write_bytes(issued.private_key_pem.bytes())
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return Tls(str(certificate), str(key), self.file)
