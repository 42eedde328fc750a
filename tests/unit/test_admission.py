"""How many associations there may be: in all, for an address, and for a calling AE title."""

from __future__ import annotations

import pytest

from dicomwire import Settings
from dicomwire.session import admission
from dicomwire.session.admission import AssociationLimits, FairQueue, LocalCounts, Peer
from dicomwire.workers.worker_end import SharedCounts


@pytest.mark.parametrize(
    ("total", "share"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (10, 8), (64, 48)]
)
def test_nobody_has_more_than_three_quarters_unless_there_are_few(total: int, share: int) -> None:
    ceilings = AssociationLimits.of(Settings(maximum_associations=total))
    assert ceilings == AssociationLimits(total, share, share)


def test_the_shares_can_be_set() -> None:
    settings = Settings(associations_per_address=10, associations_per_title=2)
    assert AssociationLimits.of(settings) == AssociationLimits(10, 10, 2)


def counts_of(*, maximum: int, per_address: int, per_title: int) -> LocalCounts:
    settings = Settings(
        maximum_associations=maximum,
        associations_per_address=per_address,
        associations_per_title=per_title,
    )
    return LocalCounts(lambda: settings)


def test_a_census_says_why_there_is_no_room() -> None:
    counts = counts_of(maximum=4, per_address=2, per_title=3)
    for number in range(2):
        assert counts.admit(number, Peer.of("10.0.0.1", "CT")) is None
    assert counts.admit(2, Peer.of("10.0.0.1", "MR")) == "10.0.0.1 has 2 of the 2 for one address"
    assert counts.admit(2, Peer.of("10.0.0.2", "CT")) is None
    assert counts.admit(3, Peer.of("10.0.0.3", "CT")) == "'CT' has 3 of the 3 for one AE title"
    assert counts.admit(3, Peer.of("10.0.0.3", "MR")) is None
    assert counts.admit(4, Peer.of("10.0.0.4", "US")) == "there are 4 associations, of 4 in all"
    counts.dismiss(0)
    counts.dismiss(0)
    assert counts.admit(4, Peer.of("10.0.0.1", "US")) is None


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("no address", "no address", True),
    ],
)
def test_what_is_one_address(one: str, other: str, is_same: bool) -> None:
    assert (Peer.of(one, "CT") == Peer.of(other, "CT")) is is_same


def test_who_has_no_address_is_counted_by_title() -> None:
    counts = counts_of(maximum=9, per_address=1, per_title=2)
    assert [counts.admit(number, Peer.of("", "CT")) is None for number in range(3)] == [
        *(True, True, False)
    ]


def test_the_slots_of_a_process_that_died_are_free() -> None:
    counts = SharedCounts(workers=2, slots=3)
    with counts.file:
        for number in (0, 1, 0):
            counts.take_slot(number, address=7, title=8 + number)
        assert counts.counts(7, 8) == (3, 3, 2)
        counts.free_slots(0)
        assert counts.counts(7, 8) == (1, 1, 0)
        counts.free_slot(counts.take_slot(0, 5, 6))
        assert counts.counts(7, 9) == (1, 1, 1)


def test_each_address_has_its_turn_however_many_others_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "WAITING_PER_ADDRESS", 3)
    waiting: FairQueue[str] = FairQueue()
    for address, item in ("ax", "ay", "az", "bx", "by", "cx"):
        waiting.put(address, address + item)
    assert len(waiting) == 6
    assert [each for each in "abcd" if waiting.is_crowded(each)] == ["a"]
    assert [waiting.take() for _ in range(7)] == ["ax", "bx", "cx", "ay", "by", "az", None]
    assert len(waiting) == 0
