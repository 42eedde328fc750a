"""Certificates for tests: two authorities, and what they have certified."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

PASSWORD = "to open it"
_RSA = trustme.KeyType.RSA  # which every peer takes
_HERE = ("localhost", "127.0.0.1", "::1")


class Pair(NamedTuple):
    """The files of a certificate and of its key."""

    certificate: Path
    key: Path


class Certificates:
    """A folder of PEM files.

    Attributes
    ----------
    ca, other_ca : Path
        The authority that peers trust, and one that they do not.
    server, client, elliptic : Pair
        In order, and for this machine; the last has a key for ECDSA.
    elsewhere, expired, stranger : Pair
        For another host, expired yesterday, and of the other authority.
    locked : Pair
        That of `server`, with a key that needs `PASSWORD`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        good, other = trustme.CA(key_type=_RSA), trustme.CA(key_type=_RSA)
        self.ca, self.other_ca = folder / "ca.pem", folder / "other-ca.pem"
        good.cert_pem.write_to_path(str(self.ca))
        other.cert_pem.write_to_path(str(self.other_ca))
        now = datetime.now(UTC)
        yesterday = now - timedelta(days=1)
        self.server = self._keep("server", good.issue_cert(*_HERE, key_type=_RSA))
        self.client = self._keep("client", good.issue_cert("client.example", key_type=_RSA))
        self.elliptic = self._keep("elliptic", good.issue_cert(*_HERE))
        self.elsewhere = self._keep("elsewhere", good.issue_cert("pacs.example", key_type=_RSA))
        self.stranger = self._keep("stranger", other.issue_cert(*_HERE, key_type=_RSA))
        self.expired = self._keep(
            "expired",
            good.issue_cert(
                *_HERE, not_before=now - timedelta(days=9), not_after=yesterday, key_type=_RSA
            ),
        )
        self.locked = Pair(self.server.certificate, folder / "locked.key")
        self.locked.key.write_bytes(
            load_pem_private_key(self.server.key.read_bytes(), None).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode())
            )
        )

    def _keep(self, name: str, made: trustme.LeafCert) -> Pair:
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        made.private_key_pem.write_to_path(str(pair.key))
        with pair.certificate.open("wb") as file:
            file.writelines(each.bytes() for each in made.cert_chain_pems)
        return pair
