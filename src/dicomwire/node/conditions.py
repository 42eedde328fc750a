"""The conditions of a route: on attributes of an object, and on the peer that sent it.

The values of an attribute match as the keys of a query do (PS3.4 C.2.2.2); see `matching`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Protocol

from dicomwire.node.ingest import Entry
from dicomwire.node.keys import KEPT
from dicomwire.node.matching import NUMBER_VRS, is_number, matcher_for
from dicomwire.node.patterns import WILDCARDS, Wildcard
from dicomwire.node.values import text_of

CALLING, NETWORK = "calling_title", "network"
"""The conditions that are no attributes."""
_MOST_KNOWN = 1000
"""The most decisions to remember for a condition. A value has 10,240 bytes at the most, and few
have more than 64."""
_RANGES = frozenset({"DA", "DT", "TM"})
_KEYS = {
    key.keyword: key
    for keys in KEPT.values()
    for key in keys
    if key.vr != "SQ"  # its items have attributes of their own
}


class _Test(Protocol):
    """Decides about the values of an attribute, which may be none."""

    def matches(self, values: Sequence[Any]) -> bool:
        """Return whether one of the values matches."""


@dataclass(frozen=True)
class Condition:
    """A condition of a route.

    Attributes
    ----------
    name : str
        The keyword of an attribute, `calling_title` or `network`.
    wanted : object
        What the configuration says.
    """

    name: str
    wanted: Any = field(hash=False)
    is_negated: bool
    raw: Callable[[Entry], Hashable] = field(compare=False)
    """Returns the encoded value: equal ones mean the same."""
    values: Callable[[Entry], Sequence[Any]] = field(compare=False)
    test: _Test = field(compare=False)
    _known: dict[Hashable, bool] = field(default_factory=dict, compare=False, repr=False)
    """The decisions by encoded value: most objects of a series have the same."""

    def accepts(self, entry: Entry) -> bool:
        """Return whether an object meets the condition."""
        raw = self.raw(entry)
        known = self._known.get(raw)
        if known is None:
            known = self.test.matches(self.values(entry)) is not self.is_negated
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[raw] = known
        return known


Conditions = tuple[Condition, ...]
"""They hold if all of them do."""


def conditions_of(table: Mapping[str, Any]) -> Conditions:
    """Return the conditions of a route, from its table in the configuration.

    Raises
    ------
    ValueError
        When one of them is invalid; the text begins with its name.
    """
    found = []
    for name, wanted in table.items():
        try:
            found.append(_condition(name, wanted))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(found)


def failing(conditions: Conditions, entry: Entry) -> Iterator[str]:
    """Yield why an object does not meet the conditions: a text for each that fails."""
    for each in conditions:
        if not each.accepts(entry):
            values = [text for value in each.values(entry) if (text := text_of(value))]
            found = " and ".join(map(repr, values)) or "missing"
            yield f"{each.name} is {found}, which does not fit {each.wanted!r}"


def _condition(name: str, wanted: Any) -> Condition:
    is_negated = isinstance(wanted, dict) and "not" in wanted
    if is_negated and len(wanted) > 1:
        raise ValueError('a table with "not" has no other keys')
    values = wanted["not"] if is_negated else wanted
    if name == NETWORK:
        get = _address_of
        return Condition(name, wanted, is_negated, get, get, _networks(values))
    if name == CALLING:
        get = _title_of
        return Condition(name, wanted, is_negated, get, get, _test("AE", values))
    key = _KEYS.get(name)
    if key is None:
        raise ValueError(
            "this is no attribute that the index has as text or number (by its keyword, such as "
            f"Modality), nor {CALLING} or {NETWORK}"
        )
    if key.column == "transfer_syntax_uid":  # the dataset does not have it
        get = _transfer_syntax_of
        return Condition(name, wanted, is_negated, get, get, _test(key.vr, values))
    tag = int(key.tag)
    return Condition(
        *(name, wanted, is_negated),
        lambda entry: entry.raw(tag),
        lambda entry: entry.values(tag),
        _test(key.vr, values),
    )


def _test(vr: str, wanted: Any) -> _Test:
    if isinstance(wanted, dict):
        return _range(vr, wanted)
    texts = [_text(each) for each in (wanted if isinstance(wanted, list) else [wanted])]
    if not texts:
        raise ValueError("the list is empty")
    if vr == "UI" and any(map(WILDCARDS.search, texts)):
        return _AnyOf(tuple(map(Wildcard, texts)))
    matcher = matcher_for(vr, [text or '""' for text in texts])
    return _Present() if matcher is None else matcher


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is neither a text nor a number")
    return str(value)


def _range(vr: str, ends: Mapping[str, Any]) -> _Test:
    if not ends or not ends.keys() <= {"from", "to"}:
        raise ValueError('a table has the key "not", or "from" and "to"')
    first, last = (_text(ends.get(name, "")) for name in ("from", "to"))
    if vr in _RANGES:
        matcher = matcher_for(vr, [f"{first}-{last}"])
        assert matcher is not None
        return matcher
    if vr not in NUMBER_VRS:
        raise ValueError("only numbers, dates and times have a range")
    if not all(is_number(each) for each in (first, last) if each):
        raise ValueError("an end of the range is not a number")
    return _Between(Decimal(first or "-Infinity"), Decimal(last or "Infinity"))


@dataclass(frozen=True)
class _AnyOf:
    tests: tuple[_Test, ...]

    def matches(self, values: Sequence[Any]) -> bool:
        return any(test.matches(values) for test in self.tests)


class _Present:
    """Any value matches: "*" as the value of a condition."""

    def matches(self, values: Sequence[Any]) -> bool:
        return any(map(text_of, values))


@dataclass(frozen=True)
class _Between:
    """A range of numbers, with both ends."""

    first: Decimal
    last: Decimal

    def matches(self, values: Sequence[Any]) -> bool:
        texts = filter(is_number, map(text_of, values))
        return any(self.first <= Decimal(text) <= self.last for text in texts)


@dataclass(frozen=True)
class _Networks:
    networks: tuple[IPv4Network | IPv6Network, ...]

    def matches(self, values: Sequence[Any]) -> bool:
        try:
            address = ip_address(values[0].partition("%")[0])
        except ValueError:  # there is none, such as for an object that was imported
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


def _networks(wanted: Any) -> _Networks:
    texts = wanted if isinstance(wanted, list) else [wanted]
    if not texts:
        raise ValueError("the list is empty")
    return _Networks(tuple(ip_network(_text(text)) for text in texts))


def _address_of(entry: Entry) -> tuple[str]:
    return (entry.origin.address,)


def _title_of(entry: Entry) -> tuple[str]:
    return (entry.origin.source_ae,)


def _transfer_syntax_of(entry: Entry) -> tuple[str]:
    return (entry.origin.transfer_syntax_uid,)
