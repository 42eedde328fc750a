"""One association, from connection to close, without any I/O (PS3.8 Section 9).

`receive_data` takes received bytes and `next_event` returns the events they contain. Methods that
send PDUs queue the bytes; `data_to_send` returns them. The caller owns the socket and the clock.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from dicomwire.errors import AbortReason, AbortSource, LocalProtocolError, RemoteProtocolError
from dicomwire.protocol.command import Message
from dicomwire.protocol.dimse import Assembler, Packer, PDUCollector, pack_command, unpack_pdus
from dicomwire.protocol.events import (
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    CommandReceived,
    ConnectionClosed,
    DataReceived,
    Event,
    PeerAborted,
    ProtocolViolated,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dicomwire.protocol.framing import Fragment, Framer, ReceivedPDU
from dicomwire.protocol.items import DEFAULT_CODECS
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import (
    PDU,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDUType,
    ReleaseRP,
    ReleaseRQ,
    decode_pdu,
)
from dicomwire.protocol.states import TRANSITIONS, Action, Role, State, Trigger

_RECEIVED = {
    PDUType.ASSOCIATE_RQ: Trigger.RQ_RECEIVED,
    PDUType.ASSOCIATE_AC: Trigger.AC_RECEIVED,
    PDUType.ASSOCIATE_RJ: Trigger.RJ_RECEIVED,
    PDUType.P_DATA_TF: Trigger.DATA_RECEIVED,
    PDUType.RELEASE_RQ: Trigger.RELEASE_RQ_RECEIVED,
    PDUType.RELEASE_RP: Trigger.RELEASE_RP_RECEIVED,
    PDUType.ABORT: Trigger.ABORT_RECEIVED,
}
_DATA_STATES = (State.ESTABLISHED, State.AWAITING_RELEASE_REPLY)
_OVER = (State.IDLE, State.AWAITING_CLOSE)
_AGREED = (State.COLLISION_REQUESTOR_LOCAL, State.COLLISION_ACCEPTOR_LOCAL)
"""States after a release collision in which this side must answer the peer's A-RELEASE-RQ.

The program has already asked for a release, so the answer is sent without asking it again.
"""
_SENDING = frozenset(
    {
        Action.AE_2,
        Action.AE_7,
        Action.AE_8,
        Action.AR_1,
        Action.AR_4,
        Action.AR_9,
        Action.AA_1,
        Action.AA_7,
        Action.AA_8,
    }
)
"""The actions that send a PDU other than P-DATA-TF."""
_VIOLATIONS = (Action.AA_1, Action.AA_8)
"""The actions that end an association because of an invalid or unexpected PDU.

AA-7 is not among them: it answers a PDU received after the association has ended.
"""
_PEER_ABORTING = (Action.AA_2, Action.AA_3)
_UNEXPECTED = Abort(AbortSource.SERVICE_PROVIDER, AbortReason.UNEXPECTED_PDU)
_RELEASE_RQ, _RELEASE_RP = ReleaseRQ(), ReleaseRP()


class Observer(Protocol):
    """Receives every PDU and every step of the state machine.

    The step for a received P-DATA-TF PDU is reported when the PDU begins, the PDU itself when all
    of it has arrived. Without an observer, no PDU objects are built for P-DATA-TF.
    """

    def pdu_received(self, pdu: PDU) -> None:
        """Called with each PDU received."""

    def pdu_sent(self, pdu: PDU) -> None:
        """Called with each PDU that is about to be sent."""

    def transition(self, state: State, trigger: Trigger, action: Action, following: State) -> None:
        """Called with each step of the state machine."""


class AssociationProtocol:
    """The Upper Layer and the message layer of one association.

    Attributes
    ----------
    state : State
    role : Role
    accepted_ids : frozenset[int]
        IDs of the presentation contexts that messages may use; the caller sets it after
        negotiation.
    out : list of bytes
        Encoded PDUs to send; see `data_to_send`.
    maximum_length : int
        The longest P-DATA-TF PDU that the peer accepts, in bytes (0: no maximum); the caller sets
        it after negotiation.
    events : deque of Event
        Those that `next_event` returns before it parses more bytes.
    observer : Observer or None
        Set by `observe`.
    """

    def __init__(
        self,
        role: Role,
        limits: Limits | None = None,
        codecs: tuple[str, ...] = DEFAULT_CODECS,
    ) -> None:
        self.role = role
        self.state = State.IDLE
        self.accepted_ids: frozenset[int] = frozenset()
        self.maximum_length = 0
        self._limits = limits or Limits()
        self._codecs = codecs
        self._framer = Framer(self._limits)
        self._assembler = Assembler(self._limits)
        self.events: deque[Event] = deque()
        self.out: list[bytes] = []
        self._ignores_input = False  # true after an invalid PDU: later bytes cannot be trusted
        self.observer: Observer | None = None

    def observe(self, observer: Observer | None) -> None:
        """Report PDUs and state changes to `observer` from now on; None stops reporting."""
        self.observer = observer
        if observer is not None:
            self._collector = PDUCollector()
        self._set_announcement()

    # Requests of the program

    def connecting(self) -> None:
        """Record that the requestor is opening a transport connection."""
        self._step(Trigger.ASSOCIATE_REQUEST)

    def connected(self, request: AssociateRQ | None = None) -> None:
        """Record that the connection is open; the requestor also passes the `request` to send."""
        if request is None:
            self._step(Trigger.CONNECTION_INDICATED)
        else:
            self._step(Trigger.CONNECTION_CONFIRMED, request)

    def establish(self, accepted_ids: frozenset[int], maximum_length: int) -> None:
        """Begin in Sta6: the caller answers the peer's request itself, as an earlier equal one.

        Without an observer, which would have to see the steps that lead there.
        """
        self.state = State.ESTABLISHED
        self.accepted_ids = accepted_ids
        self.maximum_length = maximum_length
        self._set_announcement()

    def accept(self, answer: AssociateAC) -> None:
        """Answer the peer's request with A-ASSOCIATE-AC."""
        self._step(Trigger.ACCEPT, answer)

    def reject(self, answer: AssociateRJ) -> None:
        """Answer the peer's request with A-ASSOCIATE-RJ."""
        self._step(Trigger.REJECT, answer)

    def release(self) -> None:
        """Ask the peer to release the association."""
        self._step(Trigger.RELEASE_REQUEST, _RELEASE_RQ)

    def respond_release(self) -> None:
        """Accept the peer's release request."""
        self._step(Trigger.RELEASE_RESPONSE, _RELEASE_RP)

    def abort(
        self,
        source: AbortSource = AbortSource.SERVICE_USER,
        reason: AbortReason = AbortReason.NOT_SPECIFIED,
    ) -> None:
        """End the association at once: drop all queued PDUs and queue an A-ABORT."""
        if self._step(Trigger.ABORT_REQUEST, Abort(source, reason)) is Action.AA_1:
            del self.out[:-1]

    # Messages

    def pack(self, context_id: int, message: Message) -> bytes:
        """Return the PDUs that carry the command set of `message`; the caller sends them."""
        return pack_command(context_id, message, self.maximum_length)

    def packer(self, buffer: memoryview, context_id: int, command: bytes) -> Packer:
        """Return a `Packer` that puts `command` (from `pack`) and then the dataset in `buffer`."""
        return Packer(buffer, context_id, self.maximum_length, command)

    def check_data(self, packed: memoryview | bytes) -> None:
        """Record that the caller is about to send P-DATA-TF PDUs.

        Raises
        ------
        LocalProtocolError
            If no association is established.
        """
        if self.state is State.ESTABLISHED and self.observer is None:
            return  # DT-1 stays in Sta6, and without an observer there is nothing to report
        self._step(Trigger.DATA_REQUEST)
        if self.observer is not None:
            for pdu in unpack_pdus(memoryview(packed)):
                self.observer.pdu_sent(pdu)

    # Input from the peer, the connection and the timer

    @property
    def held(self) -> bytes:
        """A few received bytes that are to be parsed together with the next ones."""
        return self._framer.held

    def receive_data(self, data: memoryview | bytes, begins_with_held: bool = False) -> None:
        """Take received bytes; the caller must then call `next_event` until it returns None.

        With `begins_with_held`, the caller has put the bytes of `held` in front of the new ones.
        Otherwise all of `data` is copied if there are such bytes.
        """
        if not self._ignores_input:
            self._framer.feed(data, begins_with_held)

    def keep_data(self) -> None:
        """Copy the unparsed bytes, so that the caller can reuse the buffer they arrived in."""
        self._framer.keep()

    def connection_lost(self) -> None:
        """Record that the transport connection was closed."""
        if self._step(Trigger.CONNECTION_CLOSED) is Action.AA_4:
            self.events.append(ConnectionClosed())

    def artim_expired(self) -> None:
        """Record that the ARTIM timer expired; the connection must close (PS3.8 Section 9.1.5)."""
        self._step(Trigger.ARTIM_EXPIRED)

    def next_event(self) -> Event | None:
        """Return the next event in the received bytes; None when more bytes are needed."""
        if self.events:
            return self.events.popleft()
        if self._ignores_input or self.state is State.IDLE:
            return None
        framer, assembler = self._framer, self._assembler
        if not framer.head and not assembler.chunks:
            if framer.at == len(framer.view):
                return None
            if not framer.announce_data:
                event = assembler.take_usual(framer, self.accepted_ids)
                if event is not None:
                    return event
                if assembler.waits(framer, self.accepted_ids):
                    return None
        try:
            while (part := framer.next()) is not None:
                if isinstance(part, Fragment):
                    event = self._take_fragment(part)
                    if event is not None:
                        return event
                else:
                    self._take_frame(part)
                    if self.events:
                        break
        except RemoteProtocolError as error:
            self._violated(error)
        data = assembler.data_so_far()
        if data is None and self.events:
            return self.events.popleft()
        return data

    def put_back(self, event: Event) -> None:
        """Return `event` to the front of the queue: the next `next_event` returns it again."""
        self.events.appendleft(event)

    def data_to_send(self) -> bytes:
        """Return the queued bytes and empty the queue."""
        if not self.out:
            return b""
        data = b"".join(self.out)
        self.out.clear()
        return data

    @property
    def mid_message(self) -> bool:
        """Whether a PDU or a message has been received in part."""
        return self._framer.mid_pdu or self._assembler.mid_message

    @property
    def is_at_rest(self) -> bool:
        """Whether the association is established, all bytes were taken, and nobody observes it.

        The caller may then send P-DATA-TF PDUs, and recognise whole messages in received bytes,
        without this object: they would change nothing here.
        """
        framer, assembler = self._framer, self._assembler
        return (
            self.state is State.ESTABLISHED
            and self.observer is None
            and framer.at == len(framer.view)
            and framer.pdu_type is None
            and not (framer.head or framer.held or assembler.context_id or self.events or self.out)
        )

    @property
    def is_over(self) -> bool:
        """Whether the association has ended or has not begun."""
        return self.state in _OVER

    # Actions

    def _step(self, trigger: Trigger, pdu: PDU | None = None) -> Action:
        """Apply one cell of the state table, and queue `pdu` if the cell's action sends a PDU.

        AR-8 has two next states: the role decides. AE-6 also has two, but here it always leads to
        Sta3, because the program decides with `accept` or `reject` if the request is acceptable.
        """
        state = self.state
        action, following = TRANSITIONS[state, trigger]
        if action is Action.REFUSE:
            raise LocalProtocolError(f"{trigger.name} is not possible in {state.value}")
        if action is Action.IGNORE:
            return action
        sent = pdu if action in _SENDING else None
        if sent is not None:
            self.out.append(sent.encode())  # encoding may fail: do it before the state changes
        after = following[action is Action.AR_8 and self.role is Role.ACCEPTOR]
        if after is not state:
            self.state = after
            self._set_announcement()
        if self.observer is not None:
            if sent is not None:
                self.observer.pdu_sent(sent)
            self.observer.transition(state, trigger, action, after)
        return action

    def _set_announcement(self) -> None:
        """Skip the state table for data where its action (DT-2, AR-6) changes nothing.

        An observer has to see each step, so with one every P-DATA-TF PDU goes through the table.
        """
        self._framer.announce_data = self.observer is not None or self.state not in _DATA_STATES

    def _take_frame(self, frame: ReceivedPDU) -> None:
        if frame.pdu_type is PDUType.P_DATA_TF:
            self._act(Trigger.DATA_RECEIVED, None)
            return
        pdu = decode_pdu(frame.pdu_type, frame.body, self._limits, self._codecs)
        if self.observer is not None:
            self.observer.pdu_received(pdu)
        if (
            isinstance(pdu, ReleaseRQ | ReleaseRP)
            and self.state in _DATA_STATES
            and self._assembler.mid_message
        ):
            raise RemoteProtocolError(
                "release before the end of a message", AbortReason.UNEXPECTED_PDU
            )
        self._act(_RECEIVED[frame.pdu_type], pdu)

    def _act(self, trigger: Trigger, pdu: PDU | None) -> None:
        """Apply the state table to a received PDU (None: a P-DATA-TF), and queue its event."""
        state = self.state
        action = self._step(trigger, _UNEXPECTED)
        if action in _VIOLATIONS:
            name = "P-DATA-TF" if pdu is None else type(pdu).__name__
            text = f"{name} received in {state.value}"
            error = RemoteProtocolError(text, AbortReason.UNEXPECTED_PDU)
            self.events.append(ProtocolViolated(error))
        elif action is Action.AR_2:
            self.events.append(ReleaseRequested())
        elif action is Action.AR_3 or action is Action.AR_10:
            self.events.append(ReleaseConfirmed())
        elif isinstance(pdu, AssociateRQ) and action is Action.AE_6:
            self.events.append(AssociateRequested(pdu))
        elif isinstance(pdu, AssociateAC) and action is Action.AE_3:
            self.events.append(AssociateAccepted(pdu))
        elif isinstance(pdu, AssociateRJ) and action is Action.AE_4:
            self.events.append(AssociateRejected(pdu))
        elif isinstance(pdu, Abort) and action in _PEER_ABORTING and state not in _OVER:
            self.events.append(PeerAborted(pdu))
        if self.state in _AGREED:
            self.respond_release()

    def _take_fragment(self, fragment: Fragment) -> CommandReceived | DataReceived | None:
        if self.observer is not None:
            pdu = self._collector.add(fragment, ends_pdu=not self._framer.mid_pdu)
            if pdu is not None:
                self.observer.pdu_received(pdu)
        if self.state not in _DATA_STATES:
            return None
        if fragment.context_id not in self.accepted_ids:
            raise RemoteProtocolError(
                f"data on presentation context {fragment.context_id}, which was not accepted"
            )
        return self._assembler.add(fragment)

    def _violated(self, error: RemoteProtocolError) -> None:
        """Abort after a PDU that could not be parsed or a message that was not valid."""
        self._ignores_input = True
        by_provider = error.source is AbortSource.SERVICE_PROVIDER
        trigger = Trigger.INVALID_PDU if by_provider else Trigger.ABORT_REQUEST
        if self._step(trigger, Abort(error.source, error.reason)) in _VIOLATIONS:
            self.events.append(ProtocolViolated(error))
