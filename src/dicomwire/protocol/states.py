"""The Upper Layer state machine of PS3.8 Section 9.2 as data, with all of its rules.

`protocol.association` performs the actions.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class _Closed(Enum):
    """An Enum hashed by identity, which is faster: every message looks up several members."""

    __hash__ = object.__hash__


class Role(Enum):
    """The side of the association: requestor or acceptor."""

    REQUESTOR = "requestor"
    ACCEPTOR = "acceptor"


class State(_Closed):
    """The states of PS3.8 Tables 9-1 to 9-5."""

    IDLE = "Sta1"
    AWAITING_REQUEST = "Sta2"
    AWAITING_LOCAL_RESPONSE = "Sta3"
    AWAITING_CONNECTION = "Sta4"
    AWAITING_ANSWER = "Sta5"
    ESTABLISHED = "Sta6"
    AWAITING_RELEASE_REPLY = "Sta7"
    AWAITING_LOCAL_RELEASE = "Sta8"
    COLLISION_REQUESTOR_LOCAL = "Sta9"
    COLLISION_ACCEPTOR_REPLY = "Sta10"
    COLLISION_REQUESTOR_REPLY = "Sta11"
    COLLISION_ACCEPTOR_LOCAL = "Sta12"
    AWAITING_CLOSE = "Sta13"


class Trigger(_Closed):
    """The events of PS3.8 Table 9-10."""

    ASSOCIATE_REQUEST = "Evt1"
    CONNECTION_CONFIRMED = "Evt2"
    AC_RECEIVED = "Evt3"
    RJ_RECEIVED = "Evt4"
    CONNECTION_INDICATED = "Evt5"
    RQ_RECEIVED = "Evt6"
    ACCEPT = "Evt7"
    REJECT = "Evt8"
    DATA_REQUEST = "Evt9"
    DATA_RECEIVED = "Evt10"
    RELEASE_REQUEST = "Evt11"
    RELEASE_RQ_RECEIVED = "Evt12"
    RELEASE_RP_RECEIVED = "Evt13"
    RELEASE_RESPONSE = "Evt14"
    ABORT_REQUEST = "Evt15"
    ABORT_RECEIVED = "Evt16"
    CONNECTION_CLOSED = "Evt17"
    ARTIM_EXPIRED = "Evt18"
    INVALID_PDU = "Evt19"


class Action(_Closed):
    """The actions of PS3.8 Tables 9-6 to 9-9, and two for the empty cells of the table."""

    AE_1 = "AE-1"
    AE_2 = "AE-2"
    AE_3 = "AE-3"
    AE_4 = "AE-4"
    AE_5 = "AE-5"
    AE_6 = "AE-6"
    AE_7 = "AE-7"
    AE_8 = "AE-8"
    DT_1 = "DT-1"
    DT_2 = "DT-2"
    AR_1 = "AR-1"
    AR_2 = "AR-2"
    AR_3 = "AR-3"
    AR_4 = "AR-4"
    AR_5 = "AR-5"
    AR_6 = "AR-6"
    AR_7 = "AR-7"
    AR_8 = "AR-8"
    AR_9 = "AR-9"
    AR_10 = "AR-10"
    AA_1 = "AA-1"
    AA_2 = "AA-2"
    AA_3 = "AA-3"
    AA_4 = "AA-4"
    AA_5 = "AA-5"
    AA_6 = "AA-6"
    AA_7 = "AA-7"
    AA_8 = "AA-8"
    REFUSE = "refuse"
    """An empty cell for a request of the program: raise `LocalProtocolError`, change nothing."""
    IGNORE = "ignore"
    """An empty cell for another trigger (a late timer, bytes after the end): change nothing."""


class Transition(NamedTuple):
    """One cell of the table; it has two next states if the action chooses between them."""

    action: Action
    next_states: tuple[State, ...]


S, T, A = State, Trigger, Action

LOCAL_REQUESTS = frozenset(
    {
        T.ASSOCIATE_REQUEST,
        T.ACCEPT,
        T.REJECT,
        T.DATA_REQUEST,
        T.RELEASE_REQUEST,
        T.RELEASE_RESPONSE,
        T.ABORT_REQUEST,
    }
)
"""The requests of the program; the other triggers come from the peer, the transport or a timer."""

_NEXT = {
    A.AE_1: (S.AWAITING_CONNECTION,),
    A.AE_2: (S.AWAITING_ANSWER,),
    A.AE_3: (S.ESTABLISHED,),
    A.AE_4: (S.IDLE,),
    A.AE_5: (S.AWAITING_REQUEST,),
    A.AE_6: (S.AWAITING_LOCAL_RESPONSE, S.AWAITING_CLOSE),
    A.AE_7: (S.ESTABLISHED,),
    A.AE_8: (S.AWAITING_CLOSE,),
    A.DT_1: (S.ESTABLISHED,),
    A.DT_2: (S.ESTABLISHED,),
    A.AR_1: (S.AWAITING_RELEASE_REPLY,),
    A.AR_2: (S.AWAITING_LOCAL_RELEASE,),
    A.AR_3: (S.IDLE,),
    A.AR_4: (S.AWAITING_CLOSE,),
    A.AR_5: (S.IDLE,),
    A.AR_6: (S.AWAITING_RELEASE_REPLY,),
    A.AR_7: (S.AWAITING_LOCAL_RELEASE,),
    A.AR_8: (S.COLLISION_REQUESTOR_LOCAL, S.COLLISION_ACCEPTOR_REPLY),
    A.AR_9: (S.COLLISION_REQUESTOR_REPLY,),
    A.AR_10: (S.COLLISION_ACCEPTOR_LOCAL,),
    A.AA_1: (S.AWAITING_CLOSE,),
    A.AA_2: (S.IDLE,),
    A.AA_3: (S.IDLE,),
    A.AA_4: (S.IDLE,),
    A.AA_5: (S.IDLE,),
    A.AA_6: (S.AWAITING_CLOSE,),
    A.AA_7: (S.AWAITING_CLOSE,),
    A.AA_8: (S.AWAITING_CLOSE,),
}
"""The next state of each action, which is the same in all cells; two actions have a choice."""

_CONNECTED = (
    S.ESTABLISHED,
    S.AWAITING_RELEASE_REPLY,
    S.AWAITING_LOCAL_RELEASE,
    S.COLLISION_REQUESTOR_LOCAL,
    S.COLLISION_ACCEPTOR_REPLY,
    S.COLLISION_REQUESTOR_REPLY,
    S.COLLISION_ACCEPTOR_LOCAL,
)
"""Sta6 to Sta12."""

_UNEXPECTED = {
    S.AWAITING_REQUEST: A.AA_1,
    S.AWAITING_LOCAL_RESPONSE: A.AA_8,
    S.AWAITING_ANSWER: A.AA_8,
    **dict.fromkeys(_CONNECTED, A.AA_8),
    S.AWAITING_CLOSE: A.AA_6,
}
"""The action for an unexpected PDU; the rows of the table override it where a PDU is expected."""

_ROWS: dict[Trigger, dict[State, Action]] = {
    T.ASSOCIATE_REQUEST: {S.IDLE: A.AE_1},
    T.CONNECTION_CONFIRMED: {S.AWAITING_CONNECTION: A.AE_2},
    T.AC_RECEIVED: {**_UNEXPECTED, S.AWAITING_ANSWER: A.AE_3},
    T.RJ_RECEIVED: {**_UNEXPECTED, S.AWAITING_ANSWER: A.AE_4},
    T.CONNECTION_INDICATED: {S.IDLE: A.AE_5},
    T.RQ_RECEIVED: {**_UNEXPECTED, S.AWAITING_REQUEST: A.AE_6, S.AWAITING_CLOSE: A.AA_7},
    T.ACCEPT: {S.AWAITING_LOCAL_RESPONSE: A.AE_7},
    T.REJECT: {S.AWAITING_LOCAL_RESPONSE: A.AE_8},
    T.DATA_REQUEST: {S.ESTABLISHED: A.DT_1, S.AWAITING_LOCAL_RELEASE: A.AR_7},
    T.DATA_RECEIVED: {
        **_UNEXPECTED,
        S.ESTABLISHED: A.DT_2,
        S.AWAITING_RELEASE_REPLY: A.AR_6,
    },
    T.RELEASE_REQUEST: {S.ESTABLISHED: A.AR_1},
    T.RELEASE_RQ_RECEIVED: {
        **_UNEXPECTED,
        S.ESTABLISHED: A.AR_2,
        S.AWAITING_RELEASE_REPLY: A.AR_8,
    },
    T.RELEASE_RP_RECEIVED: {
        **_UNEXPECTED,
        S.AWAITING_RELEASE_REPLY: A.AR_3,
        S.COLLISION_ACCEPTOR_REPLY: A.AR_10,
        S.COLLISION_REQUESTOR_REPLY: A.AR_3,
    },
    T.RELEASE_RESPONSE: {
        S.AWAITING_LOCAL_RELEASE: A.AR_4,
        S.COLLISION_REQUESTOR_LOCAL: A.AR_9,
        S.COLLISION_ACCEPTOR_LOCAL: A.AR_4,
    },
    T.ABORT_REQUEST: {
        S.AWAITING_LOCAL_RESPONSE: A.AA_1,
        S.AWAITING_CONNECTION: A.AA_2,
        S.AWAITING_ANSWER: A.AA_1,
        **dict.fromkeys(_CONNECTED, A.AA_1),
    },
    T.ABORT_RECEIVED: {
        S.AWAITING_REQUEST: A.AA_2,
        S.AWAITING_LOCAL_RESPONSE: A.AA_3,
        S.AWAITING_ANSWER: A.AA_3,
        **dict.fromkeys(_CONNECTED, A.AA_3),
        S.AWAITING_CLOSE: A.AA_2,
    },
    T.CONNECTION_CLOSED: {
        S.AWAITING_REQUEST: A.AA_5,
        S.AWAITING_LOCAL_RESPONSE: A.AA_4,
        S.AWAITING_CONNECTION: A.AA_4,
        S.AWAITING_ANSWER: A.AA_4,
        **dict.fromkeys(_CONNECTED, A.AA_4),
        S.AWAITING_CLOSE: A.AR_5,
    },
    T.ARTIM_EXPIRED: {S.AWAITING_REQUEST: A.AA_2, S.AWAITING_CLOSE: A.AA_2},
    T.INVALID_PDU: {**_UNEXPECTED, S.AWAITING_CLOSE: A.AA_7},
}


def _cell(state: State, trigger: Trigger) -> Transition:
    action = _ROWS[trigger].get(state)
    if action is None:
        return Transition(A.REFUSE if trigger in LOCAL_REQUESTS else A.IGNORE, (state,))
    return Transition(action, _NEXT[action])


TRANSITIONS: dict[tuple[State, Trigger], Transition] = {
    (state, trigger): _cell(state, trigger) for state in State for trigger in Trigger
}
"""PS3.8 Table 9-10, all 13 by 19 cells."""
