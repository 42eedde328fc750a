"""PS3.8 Table 9-10: the table as data, and what `AssociationProtocol` does in each of its cells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from upper_layer_bytes import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    ECHO_RQ,
    RELEASE_RP,
    RELEASE_RQ,
    UNKNOWN_PDU,
    USER_ABORT,
    abort,
)

from dicomwire.errors import LocalProtocolError
from dicomwire.protocol.association import AssociationProtocol
from dicomwire.protocol.events import (
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    CommandReceived,
    ConnectionClosed,
    Event,
    PeerAborted,
    ProtocolViolated,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import PDU, AssociateAC, AssociateRJ, AssociateRQ, decode_pdu
from dicomwire.protocol.states import LOCAL_REQUESTS, TRANSITIONS, Action, Role, State, Trigger

# PS3.8 Table 9-10; a dot is a cell that it leaves empty.
TABLE = """
      Sta1 Sta2 Sta3 Sta4 Sta5 Sta6 Sta7 Sta8 Sta9 Sta10 Sta11 Sta12 Sta13
Evt1  AE-1 .    .    .    .    .    .    .    .    .     .     .     .
Evt2  .    .    .    AE-2 .    .    .    .    .    .     .     .     .
Evt3  .    AA-1 AA-8 .    AE-3 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
Evt4  .    AA-1 AA-8 .    AE-4 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
Evt5  AE-5 .    .    .    .    .    .    .    .    .     .     .     .
Evt6  .    AE-6 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-7
Evt7  .    .    AE-7 .    .    .    .    .    .    .     .     .     .
Evt8  .    .    AE-8 .    .    .    .    .    .    .     .     .     .
Evt9  .    .    .    .    .    DT-1 .    AR-7 .    .     .     .     .
Evt10 .    AA-1 AA-8 .    AA-8 DT-2 AR-6 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
Evt11 .    .    .    .    .    AR-1 .    .    .    .     .     .     .
Evt12 .    AA-1 AA-8 .    AA-8 AR-2 AR-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
Evt13 .    AA-1 AA-8 .    AA-8 AA-8 AR-3 AA-8 AA-8 AR-10 AR-3  AA-8  AA-6
Evt14 .    .    .    .    .    .    .    AR-4 AR-9 .     .     AR-4  .
Evt15 .    .    AA-1 AA-2 AA-1 AA-1 AA-1 AA-1 AA-1 AA-1  AA-1  AA-1  .
Evt16 .    AA-2 AA-3 .    AA-3 AA-3 AA-3 AA-3 AA-3 AA-3  AA-3  AA-3  AA-2
Evt17 .    AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4  AA-4  AR-5
Evt18 .    AA-2 .    .    .    .    .    .    .    .     .     .     AA-2
Evt19 .    AA-1 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-7
"""

# PS3.8 Tables 9-6 to 9-9: where each action leads.
NEXT_STATES = {
    # 9-6, association establishment
    "AE-1": "Sta4",
    "AE-2": "Sta5",
    "AE-3": "Sta6",
    "AE-4": "Sta1",
    "AE-5": "Sta2",
    "AE-6": "Sta3 Sta13",
    "AE-7": "Sta6",
    "AE-8": "Sta13",
    # 9-7, data transfer
    "DT-1": "Sta6",
    "DT-2": "Sta6",
    # 9-8, release
    "AR-1": "Sta7",
    "AR-2": "Sta8",
    "AR-3": "Sta1",
    "AR-4": "Sta13",
    "AR-5": "Sta1",
    "AR-6": "Sta7",
    "AR-7": "Sta8",
    "AR-8": "Sta9 Sta10",
    "AR-9": "Sta11",
    "AR-10": "Sta12",
    # 9-9, abort
    "AA-1": "Sta13",
    "AA-2": "Sta1",
    "AA-3": "Sta1",
    "AA-4": "Sta1",
    "AA-5": "Sta1",
    "AA-6": "Sta13",
    "AA-7": "Sta13",
    "AA-8": "Sta13",
}

_HEAD, *_ROWS = [line.split() for line in TABLE.split("\n") if line]
CELLS = {
    (state, event): action
    for event, *actions in _ROWS
    for state, action in zip(_HEAD, actions, strict=True)
}

LOCAL_EVENTS = {"Evt1", "Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"}
"""What the program asks for: Evt2, 5, 17 and 18 are of transport and timer, the rest PDUs."""


# The table


def test_the_table_is_total() -> None:
    assert len(CELLS) == 13 * 19
    assert set(TRANSITIONS) == {(State(s), Trigger(e)) for s, e in CELLS}
    assert {trigger.value for trigger in LOCAL_REQUESTS} == LOCAL_EVENTS


@pytest.mark.parametrize(("state", "event"), CELLS)
def test_cell_of_the_table(state: str, event: str) -> None:
    action, following = TRANSITIONS[State(state), Trigger(event)]
    expected = CELLS[state, event]
    if expected == ".":
        refused = event in LOCAL_EVENTS
        assert action is (Action.REFUSE if refused else Action.IGNORE)
        assert following == (State(state),)
    else:
        assert action.value == expected
        assert [s.value for s in following] == NEXT_STATES[expected].split()


def test_every_action_occurs() -> None:
    assert set(CELLS.values()) - {"."} == set(NEXT_STATES)
    assert {action.value for action in Action} == set(NEXT_STATES) | {"refuse", "ignore"}


# The protocol in each cell

REQUEST = decode_pdu(1, ASSOCIATE_RQ[6:], Limits())
ACCEPTANCE = decode_pdu(2, ASSOCIATE_AC[6:], Limits())
assert isinstance(REQUEST, AssociateRQ)
assert isinstance(ACCEPTANCE, AssociateAC)

FIRE: dict[str, Callable[[AssociationProtocol], None]] = {
    "Evt1": lambda protocol: protocol.connecting(),
    "Evt2": lambda protocol: protocol.connected(REQUEST),
    "Evt3": lambda protocol: protocol.receive_data(ASSOCIATE_AC),
    "Evt4": lambda protocol: protocol.receive_data(ASSOCIATE_RJ),
    "Evt5": lambda protocol: protocol.connected(),
    "Evt6": lambda protocol: protocol.receive_data(ASSOCIATE_RQ),
    "Evt7": lambda protocol: protocol.accept(ACCEPTANCE),
    "Evt8": lambda protocol: protocol.reject(AssociateRJ(1, 1, 7)),
    "Evt9": lambda protocol: protocol.check_data(memoryview(ECHO_RQ)),
    "Evt10": lambda protocol: protocol.receive_data(ECHO_RQ),
    "Evt11": lambda protocol: protocol.release(),
    "Evt12": lambda protocol: protocol.receive_data(RELEASE_RQ),
    "Evt13": lambda protocol: protocol.receive_data(RELEASE_RP),
    "Evt14": lambda protocol: protocol.respond_release(),
    "Evt15": lambda protocol: protocol.abort(),
    "Evt16": lambda protocol: protocol.receive_data(USER_ABORT),
    "Evt17": lambda protocol: protocol.connection_lost(),
    "Evt18": lambda protocol: protocol.artim_expired(),
    "Evt19": lambda protocol: protocol.receive_data(UNKNOWN_PDU),
}

ROADS = {
    Role.REQUESTOR: {
        "Sta1": "",
        "Sta4": "Evt1",
        "Sta5": "Evt1 Evt2",
        "Sta6": "Evt1 Evt2 Evt3",
        "Sta7": "Evt1 Evt2 Evt3 Evt11",
        "Sta8": "Evt1 Evt2 Evt3 Evt12",
        "Sta11": "Evt1 Evt2 Evt3 Evt11 Evt12",  # by way of Sta9
        "Sta13": "Evt1 Evt2 Evt3 Evt15",
    },
    Role.ACCEPTOR: {
        "Sta1": "",
        "Sta2": "Evt5",
        "Sta3": "Evt5 Evt6",
        "Sta6": "Evt5 Evt6 Evt7",
        "Sta7": "Evt5 Evt6 Evt7 Evt11",
        "Sta8": "Evt5 Evt6 Evt7 Evt12",
        "Sta10": "Evt5 Evt6 Evt7 Evt11 Evt12",
        "Sta13": "Evt5 Evt6 Evt7 Evt15",
    },
}
"""How to get there. Into the other states no stream of events leads, or only through them."""


class Recorder:
    """An observer that remembers the steps of the state machine."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str, str, str]] = []

    def pdu_received(self, pdu: PDU) -> None: ...

    def pdu_sent(self, pdu: PDU) -> None: ...

    def transition(self, state: State, trigger: Trigger, action: Action, following: State) -> None:
        self.steps.append((state.value, trigger.value, action.value, following.value))


def events_of(protocol: AssociationProtocol) -> list[Event]:
    return list(iter(protocol.next_event, None))


def arrive(role: Role, state: str) -> AssociationProtocol:
    """Return a protocol in `state`, with nothing left to be told or sent."""
    protocol = AssociationProtocol(role)
    protocol.accepted_ids = frozenset({1})
    for event in ROADS[role].get(state, "").split():
        FIRE[event](protocol)
        events_of(protocol)
    if state not in ROADS[role]:
        protocol.state = State(state)
        protocol.observe(None)
    assert protocol.state is State(state)
    protocol.data_to_send()
    return protocol


SENT = {
    "AE-2": ASSOCIATE_RQ,
    "AE-7": ASSOCIATE_AC,
    "AE-8": ASSOCIATE_RJ,
    "AR-1": RELEASE_RQ,
    "AR-4": RELEASE_RP,
    "AR-9": RELEASE_RP,
    "AR-10": RELEASE_RP,  # with AR-4, which follows at once
}
TOLD: dict[str, type[Event]] = {
    "AE-3": AssociateAccepted,
    "AE-4": AssociateRejected,
    "AE-6": AssociateRequested,
    "DT-2": CommandReceived,
    "AR-2": ReleaseRequested,
    "AR-3": ReleaseConfirmed,
    "AR-6": CommandReceived,
    "AR-10": ReleaseConfirmed,
    "AA-3": PeerAborted,
    "AA-4": ConnectionClosed,
    "AA-8": ProtocolViolated,
}


def steps_of(role: Role, state: str, event: str) -> list[tuple[str, str, str, str]]:
    """The steps that lead on from a cell: one, none, or two where both ends want the release.

    The program that asked for the release is not asked whether it agrees to it.
    """
    action = CELLS[state, event]
    if action == ".":
        return []
    following = NEXT_STATES[action].split()[0]
    if action == "AR-8" and role is Role.ACCEPTOR:
        following = "Sta10"
    steps = [(state, event, action, following)]
    if action == "AR-8" and role is Role.REQUESTOR:
        steps.append(("Sta9", "Evt14", "AR-9", "Sta11"))
    if action == "AR-10":
        steps.append(("Sta12", "Evt14", "AR-4", "Sta13"))
    return steps


def sent_in(role: Role, state: str, event: str) -> bytes:
    """The bytes that a cell sends."""
    action = CELLS[state, event]
    if action in ("AA-1", "AA-7", "AA-8"):
        if event == "Evt15":
            return abort(0, 0)
        # Of the service provider even from AA-1 in Sta2, since only then a reason may be told.
        return abort(2, 1) if event == "Evt19" else abort(2, 2)
    if action == "AR-8" and role is Role.REQUESTOR:
        return RELEASE_RP  # with AR-9, which follows at once
    return SENT.get(action, b"")


def told_in(state: str, event: str) -> type[Event] | None:
    """The class of the event that a cell tells the program of."""
    action = CELLS[state, event]
    if action == "AA-1" and event != "Evt15":
        return ProtocolViolated
    if (action, state, event) == ("AA-2", "Sta2", "Evt16"):
        return PeerAborted
    return TOLD.get(action)


EVERYWHERE = pytest.mark.parametrize(
    ("role", "state", "event"),
    [
        pytest.param(role, state, event, id=f"{role.value}-{state}-{event}")
        for role in Role
        for state, event in CELLS
    ],
)


@EVERYWHERE
def test_outcome(role: Role, state: str, event: str) -> None:
    protocol = arrive(role, state)
    if CELLS[state, event] == "." and event in LOCAL_EVENTS:
        with pytest.raises(LocalProtocolError, match=f"not possible in {state}"):
            FIRE[event](protocol)
    else:
        FIRE[event](protocol)
    told = told_in(state, event)
    assert [type(e) for e in events_of(protocol)] == ([told] if told else [])
    assert protocol.data_to_send() == sent_in(role, state, event)
    steps = steps_of(role, state, event)
    after = steps[-1][3] if steps else state
    assert protocol.state.value == after
    assert (protocol.state is State.IDLE) == (after == "Sta1")
    assert protocol.is_over == (after in ("Sta1", "Sta13"))


@EVERYWHERE
def test_outcome_observed(role: Role, state: str, event: str) -> None:
    protocol = arrive(role, state)
    recorder = Recorder()
    protocol.observe(recorder)
    try:
        FIRE[event](protocol)
    except LocalProtocolError:
        assert CELLS[state, event] == "."
    told = told_in(state, event)
    assert [type(e) for e in events_of(protocol)] == ([told] if told else [])
    assert protocol.data_to_send() == sent_in(role, state, event)
    assert recorder.steps == steps_of(role, state, event)
