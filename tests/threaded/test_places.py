"""Few pool threads serve at the same time; none waits long for another one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dicomwire import AE, evt
from dicomwire.sop_class import Verification
from dicomwire.threaded import places
from dicomwire.threaded.places import Place, Room

MANY = 5
WAIT = 10.0


@pytest.mark.parametrize("event", [evt.EVT_C_ECHO, evt.EVT_DIMSE_RECV], ids=str)
def test_handlers_of_many_associations_run_at_the_same_time(event: Any) -> None:
    meeting = threading.Barrier(MANY, timeout=WAIT)
    ae = AE()
    ae.add_supported_context(Verification)
    ae.add_requested_context(Verification)
    handler = (event, lambda _: meeting.wait() and 0)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[handler])
    associations = [ae.associate(*server.server_address) for _ in range(MANY)]
    statuses = []
    threads = [
        threading.Thread(target=lambda each=each: statuses.append(each.send_c_echo().Status))
        for each in associations
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert statuses == [0x0000] * MANY
    for each in associations:
        each.release()
    server.shutdown()


def test_one_that_is_held_up_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_rooms", [Room()])
    monkeypatch.setattr(places, "PATIENCE", 0.001)
    held_up, second, third = Place(), Place(), Place()
    held_up.take(1)
    second.take(2)
    assert not second.leave()  # it serves without a place
    third.take(3)
    assert third.leave()
    assert held_up.leave()


def test_a_place_is_free_again_when_it_is_left() -> None:
    one = Place()
    for _ in range(3):
        one.take(1)
        assert one.leave()
        assert not one.leave()
