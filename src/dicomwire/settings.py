"""Every limit, deadline and switch of an AE or association, in one frozen object.

There are no process-wide options: an AE has one `Settings` and passes it to its associations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dicomwire.protocol.items import DEFAULT_CODECS
from dicomwire.protocol.limits import MIB, Limits


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits, deadlines (seconds; None waits forever) and switches of an AE or association.

    A deadline counts from the beginning of its stage, not from the last read, so that a peer
    cannot extend it by sending single bytes.
    """

    connection_timeout: float | None = 30.0
    """Deadline "connect": the TCP connection. None: the operating system's, usually minutes."""
    tls_timeout: float | None = 30.0
    """Deadline "tls": the TLS handshake."""
    acse_timeout: float | None = 30.0
    """Deadline "associate" and "release": the peer's answer; ARTIM of PS3.8 Section 9.1.5."""
    dimse_timeout: float | None = 30.0
    """Deadline "response": each DIMSE message that is awaited."""
    write_timeout: float | None = 60.0
    """Deadline "write": the time in which not one byte of a message could be sent."""
    network_timeout: float | None = 60.0
    """Deadline "idle": the time without a request from the peer or an operation of ours."""
    close_timeout: float = 2.0
    """Seconds to wait for the peer to close the connection after the association has ended."""

    drain_timeout: float = 10.0
    """Seconds that running associations have to end when a server drains; then they are aborted."""

    maximum_associations: int = 10
    """The most associations that an AE accepts at a time; it rejects further requests."""
    associations_per_address: int | None = None
    """The most of them from one address (IPv6: from one /64 prefix); None is three quarters of
    `maximum_associations`. Raise it if many known peers share one gateway."""
    associations_per_title: int | None = None
    """The most of them with one calling AE title; None is three quarters."""
    maximum_connections: int = 10_000
    """The most open connections of a server; a further one makes the server close one without an
    association."""
    connections_per_address: int = 10_000
    """The most open connections from one address that have not requested an association yet."""
    operations_window: int = 1
    """The most outstanding operations that a requestor is granted when it proposes several."""

    limits: Limits = field(default_factory=Limits)
    """Limits on the memory that a peer can make us use."""
    spool_threshold: int = 16 * MIB
    """A received C-STORE dataset larger than this (bytes) goes to a temporary file."""
    memory_budget: int = 512 * MIB
    """The memory (bytes) for all received datasets of an AE that are not handled yet. When it is
    used up, C-STORE datasets go to temporary files and other requests are answered with 0xA700."""
    spool_budget: int | None = 40 * 1024 * MIB
    """The same for temporary files (bytes); when it is used up, C-STORE is answered with 0xA700.
    None: no limit."""
    store_ceiling: int | None = None
    """A C-STORE dataset larger than this (bytes) is answered with 0xA700; None: no limit."""
    inflate_ceiling: int = 1024 * MIB
    """A deflated dataset that inflates to more than this (bytes) is not decoded."""

    codecs: tuple[str, ...] = DEFAULT_CODECS
    """The codecs to try, in this order, for text in A-ASSOCIATE PDUs such as AE titles."""
    unrestricted_storage: bool = False
    """Accept any storage, private or unknown SOP class (a "promiscuous" storage SCP)."""
    log_pdus: bool = True
    """Log PDUs and DIMSE messages at DEBUG level."""


class Timeout:
    """A timeout of `settings`, as an attribute of an AE or an association."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> float | None:
        if instance is None:
            return self  # type: ignore[return-value]  # for documentation
        value: float | None = getattr(instance.settings, self._name)
        return value

    def __set__(self, instance: Any, value: float | None) -> None:
        instance.set_timeout(self._name, value)
