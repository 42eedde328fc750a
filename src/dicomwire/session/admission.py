"""Who may have one more association: how many there may be in all, for an address, for a title.

Nothing here knows sockets or processes. The AE counts, or the memory that workers share.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Generic, TypeVar

from dicomwire.logs import escaped
from dicomwire.settings import Settings

T = TypeVar("T")

WAITING_PER_ADDRESS = 1024
"""Connections of one address that may wait to be answered: as many as the system's queue holds."""
_SITE = 64
"""Bits of an IPv6 address that tell sites apart; within a site, a host may have any number."""


@dataclass(frozen=True, slots=True)
class Party:
    """Whom an association is counted for.

    Attributes
    ----------
    address : str
        The peer's address, for IPv6 the network of its site; empty where there is none.
    title : str
        The calling AE title.
    """

    address: str
    title: str

    @classmethod
    def of(cls, host: str, title: str) -> Party:
        """Return the party for a numeric address and a calling AE title."""
        return cls(_site(host), title)


def _site(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_link_local or address.is_loopback:
        return host  # all of these have the same first bits
    return str(IPv6Network((int(address), _SITE), strict=False))


@dataclass(frozen=True, slots=True)
class Ceilings:
    """How many associations there may be: in all, for one address, and for one calling title."""

    total: int
    per_address: int
    per_title: int

    @classmethod
    def of(cls, settings: Settings) -> Ceilings:
        """Return the ceilings of `settings`.

        Where they set no ceiling for an address or a title, that is three quarters of all slots,
        rounded up. Sites behind one gateway share an address, and stations one title, so that most
        of the slots are anybody's; yet nobody alone can keep all others out.
        """
        total = settings.maximum_associations
        share = -(-3 * total // 4)
        address, title = settings.associations_per_address, settings.associations_per_title
        return cls(total, share if address is None else address, share if title is None else title)

    def objection(self, party: Party, total: int, from_address: int, by_title: int) -> str | None:
        """Return why `party` gets no association, given how many there are; None if it does."""
        if total >= self.total:
            return f"there are {total} associations, of {self.total} in all"
        if party.address and from_address >= self.per_address:
            return f"{party.address} has {from_address} of the {self.per_address} for one address"
        if by_title >= self.per_title:
            title = escaped(party.title)
            return f"'{title}' has {by_title} of the {self.per_title} for one AE title"
        return None


class Census:
    """Counts the accepted associations of one process; its caller lets one thread in at a time.

    Parameters
    ----------
    ceilings : callable
        Returns the ceilings that are in force.
    """

    def __init__(self, ceilings: Callable[[], Ceilings]) -> None:
        self._ceilings = ceilings
        self._parties: dict[object, Party] = {}
        self._addresses: Counter[str] = Counter()
        self._titles: Counter[str] = Counter()

    def admit(self, association: object, party: Party) -> str | None:
        """Count `association`, or return why there may be no more of its party."""
        counts = len(self._parties), self._addresses[party.address], self._titles[party.title]
        objection = self._ceilings().objection(party, *counts)
        if objection is None:
            self._parties[association] = party
            self._addresses[party.address] += 1
            self._titles[party.title] += 1
        return objection

    def dismiss(self, association: object) -> None:
        """Note that `association` is over, if it was counted."""
        party = self._parties.pop(association, None)
        if party is not None:
            _take_one(self._addresses, party.address)
            _take_one(self._titles, party.title)


def _take_one(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]  # so that nothing stays of who was here once


class Rounds(Generic[T]):
    """Those who wait to be answered; each address has its turn, however many others send.

    Its caller lets one thread in at a time.
    """

    def __init__(self) -> None:
        self._lines: dict[str, deque[T]] = {}  # in the order of their turns; none is empty

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def is_crowded(self, address: str) -> bool:
        """Return whether enough of an address wait."""
        return len(self._lines.get(address, ())) >= WAITING_PER_ADDRESS

    def put(self, address: str, item: T) -> None:
        """Have `item` wait behind others of its address."""
        self._lines.setdefault(address, deque()).append(item)

    def take(self) -> T | None:
        """Return the one whose turn it is; None where nobody waits."""
        address = next(iter(self._lines), None)
        if address is None:
            return None
        line = self._lines.pop(address)
        item = line.popleft()
        if line:
            self._lines[address] = line  # the others of this address come after all others
        return item
