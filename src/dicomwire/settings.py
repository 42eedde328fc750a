"""Every limit, deadline and switch of an AE or association, in one frozen object.

There are no process-wide options: an AE holds one `Settings` and hands it to what it makes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dicomwire.protocol.items import DEFAULT_CODECS
from dicomwire.protocol.limits import MIB, Limits


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits, deadlines (seconds, None waits forever) and switches of an AE or association.

    Deadlines are absolute from where their stage begins, not per read, so that a peer which
    drips a byte now and then gains nothing.
    """

    connection_timeout: float | None = 30.0
    """Deadline "connect": the TCP connection. With None it is the operating system's, minutes."""
    tls_timeout: float | None = 30.0
    """Deadline "tls": the TLS handshake."""
    acse_timeout: float | None = 30.0
    """Deadline "associate" and "release": the peer's answer; ARTIM of PS3.8 Section 9.1.5."""
    dimse_timeout: float | None = 30.0
    """Deadline "response": each awaited DIMSE message."""
    write_timeout: float | None = 60.0
    """Deadline "write": no byte of a message could be sent for so long."""
    network_timeout: float | None = 60.0
    """Deadline "idle": for so long the peer asked for nothing, and nothing was done or awaited."""
    close_timeout: float = 2.0
    """How long a connection that we have ended may wait for the peer to close it."""

    drain_timeout: float = 10.0
    """How long running associations may go on when a server is drained; then they are aborted."""

    maximum_associations: int = 10
    """How many associations an AE accepts at a time; the next request is rejected."""
    associations_per_address: int | None = None
    """How many of them one address may have, or one site with IPv6 (the first 64 bits); None is
    three quarters. Raise it where many peers come through one gateway, and are known."""
    associations_per_title: int | None = None
    """How many of them one calling AE title may have; None is three quarters."""
    maximum_connections: int = 10_000
    """Open connections of a server; where there are more, one without an association gives way."""
    connections_per_address: int = 10_000
    """Open connections from one address that have not asked for an association yet."""
    operations_window: int = 1
    """How many operations a requestor may have outstanding, if it asks for several."""

    limits: Limits = field(default_factory=Limits)
    """Ceilings for what a peer may make us hold."""
    spool_threshold: int = 16 * MIB
    """A received C-STORE dataset larger than this (bytes) goes to a temporary file."""
    memory_budget: int = 512 * MIB
    """What the datasets of all associations of an AE may take in memory together until they have
    been handled (bytes); then C-STORE uses temporary files, and others are answered with 0xA700."""
    spool_budget: int | None = 40 * 1024 * MIB
    """The same for temporary files (bytes); what is more is answered with 0xA700. None for no
    ceiling."""
    store_ceiling: int | None = None
    """A C-STORE dataset larger than this (bytes) is answered with 0xA700; None for no ceiling."""
    inflate_ceiling: int = 1024 * MIB
    """A deflated dataset that inflates to more than this (bytes) is not decoded."""

    codecs: tuple[str, ...] = DEFAULT_CODECS
    """What decodes text in A-ASSOCIATE PDUs, such as AE titles: the first of them that can."""
    unrestricted_storage: bool = False
    """Accept any storage, private or unknown SOP class (behaviour of a promiscuous SCP)."""
    log_pdus: bool = True
    """Log PDUs and DIMSE messages at DEBUG level."""
