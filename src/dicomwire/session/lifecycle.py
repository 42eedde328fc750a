"""The beginning and the end of an association, and the events that report them.

The order of the events is part of the interface. `requests` sends requests on the association.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from dicomwire import events as evt
from dicomwire.data.budgets import Share
from dicomwire.errors import (
    AbortReason,
    AbortSource,
    AssociationAborted,
    AssociationFailure,
    AssociationRejected,
    LocalProtocolError,
)
from dicomwire.logs import LOGGER, Between, Progress, escaped
from dicomwire.protocol.context import PresentationContext, Result
from dicomwire.protocol.events import (
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Event,
    PeerAborted,
    ProtocolViolated,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dicomwire.protocol.pdu import (
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ReleaseRP,
    ReleaseRQ,
)
from dicomwire.protocol.states import Role
from dicomwire.public_names import PublicNames
from dicomwire.session import acceptance
from dicomwire.session.agreements import BEGINNING, Agreement
from dicomwire.session.ends import MODE_ACCEPTOR, MODE_REQUESTOR, ServiceUser
from dicomwire.session.engine_association import EngineAssociation
from dicomwire.session.entity import Entity
from dicomwire.session.intake import Engine, LocalAbort
from dicomwire.settings import Settings

_NUMBERS = itertools.count(1)
"""The numbers of the associations of this process in the log."""


_RELEASE_RQ, _RELEASE_RP = ReleaseRQ(), ReleaseRP()


class Lifecycle(PublicNames, EngineAssociation, ABC):
    """An association from its request to its end: both ends, the public state and the events."""

    library_names = """
        abandon answer answer_request begin begin_as_agreed between cancel
        address_of cancel_context check_established contexts_by_id delete drain echo end end_class
        failed
        files_stored give_up kill normalized on_event on_local_abort on_lost
        on_network_timeout open_object
        open_sink own_storer own_window perform query release_soon request respond_early service_of
        set_timeout start_as_agreed start_serving store_object storer_to take_over
        run_notification watch"""
    end_class: type[ServiceUser] = ServiceUser
    """The class of its two ends, for subclasses to extend."""

    @abstractmethod
    def _make_port(self, role: Role, settings: Settings) -> Engine:
        """Return the port of the face."""

    def __init__(
        self,
        ae: Entity[Any, Any],
        mode: str,
        handlers: evt.Handlers,
        settings: Settings,
        agreement: Agreement | None,
    ) -> None:
        self._ae = ae
        self._mode = mode
        self._agreement = agreement
        if agreement is None:  # otherwise they are made when a program looks at them
            self.requestor = self.end_class(self, MODE_REQUESTOR)
            self.acceptor = self.end_class(self, MODE_ACCEPTOR)
        self._number = next(_NUMBERS)
        self.handlers = handlers
        self._memory = Share(ae.memory)
        self._spool = Share(ae.spool)
        self.is_established = False
        self.is_released = False
        self.is_aborted = False
        self.is_rejected = False
        self.network_timeout_response = "A-ABORT"
        self._open_reported = False
        self._releasing = False
        self._ending = False  # how it ends is decided, and nothing changes it any more
        self._port = self._make_port(Role(mode), settings)

    def __repr__(self) -> str:
        between = self.between
        way = "to" if between.is_requestor else "from"
        return f"<Association {way} {escaped(between.title)}@{between.address}, {self._state}>"

    @property
    def between(self) -> Between:
        """The number of the association and its peer, for the log."""
        is_ours = self._mode == MODE_REQUESTOR
        peer = self.acceptor if is_ours else self.requestor
        target = self._port.target
        address = self._port.peer or (target.peer if target is not None else "?")
        return Between(self._number, is_ours, peer.ae_title or "?", address)

    @property
    def _state(self) -> str:
        states = ("established", "released", "aborted", "rejected")
        reached = (each for each in states if getattr(self, f"is_{each}"))
        reason = f": {escaped(self.failure.text)}" if self.failure is not None else ""
        return f"{next(reached, 'not established')}{reason}"

    @cached_property
    def requestor(self) -> ServiceUser:
        """The requestor's end, with its values in the negotiation."""
        agreed = self._agreement
        assert agreed is not None
        end = self.end_class(self, MODE_REQUESTOR)
        end.adopt(agreed.request)
        return end

    @cached_property
    def acceptor(self) -> ServiceUser:
        """The acceptor's end, with its values in the negotiation."""
        agreed = self._agreement
        assert agreed is not None
        end = self.end_class(self, MODE_ACCEPTOR)
        end.adopt(agreed.answer, agreed.called_ae_title, agreed.supported)
        return end

    def address_of(self, mode: str) -> Any:
        """Return the address of an end as sockets have it; empty before the connection is open."""
        return self._port.local if mode == self._mode else self._port.remote

    @cached_property
    def _contexts(self) -> list[PresentationContext]:
        """The negotiated contexts, made when they are first needed."""
        answer = self.acceptor.primitive if self._mode == MODE_ACCEPTOR else None
        return answer.presentation_contexts if isinstance(answer, AssociateAC) else []

    @property
    def mode(self) -> str:
        """Which end we are: "requestor" or "acceptor"."""
        return self._mode

    @property
    def failure(self) -> AssociationFailure | None:
        """Why the association ended or never began; None if nothing went wrong."""
        return self._port.failure

    @property
    def operations_window(self) -> int:
        """How many operations the requestor may have outstanding (PS3.7 Annex D.3.3.3).

        One, unless the requestor asked for more and the acceptor granted it. 0 means any number;
        only a requestor that asks for it gets it.
        """
        asked, _ = self.requestor.asynchronous_operations
        granted, _ = self.acceptor.asynchronous_operations
        return min(asked, granted) if asked and granted else max(asked, granted)

    @property
    def own_window(self) -> int:
        """How many operations we may have outstanding; 0 is any number. An acceptor has one."""
        return self.operations_window if self._mode == MODE_REQUESTOR else 1

    # --- The requestor's beginning ---

    async def begin(self, called_ae_title: str) -> None:
        """Connect and request the association; the flags and `failure` tell the outcome."""
        port = self._port
        self.handlers.arm()
        port.observe()
        self.acceptor.ae_title = called_ae_title
        request = acceptance.build_request(self.requestor, called_ae_title)
        try:
            self._announce(evt.EVT_ACSE_SENT, primitive=request)
            self._announce(evt.EVT_REQUESTED)
            LOGGER.info(Progress.REQUESTING)
            port.protocol.connecting()
            await port.connect()
            self._report_open()
            port.protocol.connected(request)
            self.requestor.primitive = request
            await port.flushed()
            await self._conclude()
        except AssociationFailure as failure:
            port.fail(failure)
        except BaseException:
            port.abort()  # so that no connection stays open
            raise

    def _report_open(self) -> None:
        self._open_reported = True
        self._announce(evt.EVT_CONN_OPEN, address=self._remote_address)

    @property
    def _remote_address(self) -> tuple[Any, ...]:
        """The address of the peer, as events have it."""
        remote = self._port.remote
        return remote if isinstance(remote, tuple) else (str(remote), 0)

    async def _conclude(self) -> None:
        """Await the acceptor's answer and act on it."""
        port = self._port
        event = await port.receive_event(port.settings.acse_timeout, "associate")
        if isinstance(event, AssociateAccepted):
            self._accepted(event.pdu)
        elif isinstance(event, AssociateRejected):
            self._rejected(event.pdu)
        else:
            port.take(event)

    def _accepted(self, answer: AssociateAC) -> None:
        request = self.requestor.primitive
        assert isinstance(request, AssociateRQ)
        self.acceptor.primitive = answer
        self._announce(evt.EVT_ACSE_RECV, primitive=answer)
        self._set_contexts(acceptance.conclude_request(request, answer))
        self._port.protocol.maximum_length = self.acceptor.maximum_length or 0
        LOGGER.info(Progress.ACCEPTED)
        if not self._port.contexts:
            self._announce(evt.EVT_ACCEPTED)
            refused = "; ".join(map(_refused, self._contexts))
            text = f"the peer accepted no presentation context: {refused}"
            raise self._port.aborted(text, AbortSource.SERVICE_PROVIDER)
        self._establish()
        self._report_established()

    def _establish(self) -> None:
        self._port.stage = "data"
        self._port.is_active = True  # the network timeout begins here
        self.is_established = True

    def _report_established(self) -> None:
        self._announce(evt.EVT_ACCEPTED)
        self._announce(evt.EVT_ESTABLISHED)

    def _rejected(self, answer: AssociateRJ) -> None:
        with _Conclusion(self):
            self.acceptor.primitive = answer
            text = f"rejected: {answer.result_str}, {answer.source_str}: {answer.reason_str}"
            LOGGER.error("%s: %s", Progress.REJECTED, text)
            self._notify(evt.EVT_ACSE_RECV, primitive=answer)
            self._note_rejection(text, answer)

    def _note_rejection(self, text: str, answer: AssociateRJ) -> None:
        self.is_rejected = True
        code = answer.result, answer.source, answer.diagnostic
        self._port.failure = AssociationRejected(text, *code, self._port.peer)
        self._notify(evt.EVT_REJECTED)

    # --- The acceptor's beginning ---

    def take_over(self) -> None:
        """Begin as the acceptor on a new connection, before the peer's request is known."""
        self.handlers.arm()
        self._port.observe()
        self._port.protocol.connected()
        self._report_open()

    def begin_as_agreed(self) -> None:
        """Begin as the acceptor of a request that was agreed on before, and answer it.

        No handler is bound to an event of the beginning.
        """
        agreed, port = self._agreement, self._port
        assert agreed is not None
        self._open_reported = True
        self._log(logging.INFO, Progress.ACCEPTING)
        port.protocol.establish(agreed.accepted_ids, agreed.maximum_length)
        self._establish()
        port.send_at_once(agreed.encoded)

    def give_up(self, failure: AssociationFailure) -> None:
        """Close a connection on which no association request arrived."""
        if self._ending:
            return
        with _Conclusion(self):
            self._port.failure = failure
            self._port.protocol.artim_expired()

    async def answer_request(self, policy: acceptance.Policy) -> None:
        """Await the association request, answer it, and serve the requests that follow."""
        port = self._port
        try:
            port.check()
            event = await port.receive_event(port.settings.acse_timeout, "associate")
            if isinstance(event, AssociateRequested):
                await self._requested(event, policy)
            else:
                port.take(event)
        except AssociationFailure as failure:
            port.fail(failure)
        except BaseException as error:
            port.crash(error)
        if self.is_established:
            port.begin_serving()

    async def _requested(self, event: AssociateRequested, policy: acceptance.Policy) -> None:
        port, request = self._port, event.pdu
        self.requestor.primitive = request
        with contextlib.suppress(ValueError):  # no valid title: keep our own
            self.acceptor.ae_title = request.called_ae_title
        self._announce(evt.EVT_ACSE_RECV, primitive=request)
        self._announce(evt.EVT_REQUESTED)
        self._log(logging.INFO, Progress.ACCEPTING)
        answer = await acceptance.answer_request(port, request, self.acceptor, policy)
        port.check()
        self.acceptor.primitive = answer
        if isinstance(answer, AssociateRJ):
            self._reject(answer)
            return
        if BEGINNING.isdisjoint(self.handlers.live):
            acceptor = self.acceptor
            policy.remember(
                Agreement.of(request, answer, acceptor.ae_title, acceptor.supported_contexts)
            )
        self._set_contexts(answer.presentation_contexts)
        port.protocol.maximum_length = self.requestor.maximum_length or 0
        self._announce(evt.EVT_ACSE_SENT, primitive=answer)
        port.protocol.accept(answer)
        self._establish()
        self._report_established()
        await port.flushed()  # after the handlers, since the peer may send requests from here on

    def _reject(self, answer: AssociateRJ) -> None:
        port = self._port
        with _Conclusion(self):
            reason = f"{answer.reason_str} (it called {escaped(self.acceptor.ae_title)})"
            self._log(logging.WARNING, Progress.REJECTING, reason)
            self._notify(evt.EVT_ACSE_SENT, primitive=answer)
            self._note_rejection(f"rejected: {answer.reason_str}", answer)
            port.protocol.reject(answer)
            port.flush_now()

    def _set_contexts(self, contexts: list[PresentationContext]) -> None:
        self._contexts = contexts
        self._port.contexts = self.contexts_by_id()
        self._port.protocol.accepted_ids = frozenset(self._port.contexts)

    def contexts_by_id(self) -> dict[int, PresentationContext]:
        """Return the accepted presentation contexts by id."""
        return {
            context.context_id: context
            for context in self._contexts
            if context.result == Result.ACCEPTANCE
        }

    # --- The end ---

    async def end(self) -> None:
        """Release the association (PS3.8 Section 7.2), if it is established."""
        port = self._port
        if not self.is_established or self._ending or self._releasing:
            return
        self._releasing = True
        port.stage = "release"
        LOGGER.info(Progress.RELEASING)
        try:
            self._announce(evt.EVT_ACSE_SENT, primitive=_RELEASE_RQ)
            port.protocol.release()
            await port.flushed()
            await port.until_ended(port.settings.acse_timeout, "release")
        except AssociationFailure as failure:
            port.fail(failure)

    def on_local_abort(self, failure: AssociationFailure) -> None:
        """End the association from our side (A-ABORT)."""
        port = self._port
        if self._ending:
            return
        with _Conclusion(self):
            source = failure.source if isinstance(failure, AssociationAborted) else 0
            level = logging.INFO if isinstance(failure, LocalAbort) else logging.WARNING
            self._log(level, Progress.ABORTING, failure)
            self._notify(evt.EVT_ACSE_SENT, primitive=Abort(source, 0))
            self._aborted(failure)
            with contextlib.suppress(LocalProtocolError):
                port.protocol.abort(AbortSource(source))
            self._send_last_pdu()

    def _aborted(self, failure: AssociationFailure) -> None:
        self.is_established = False
        self.is_aborted = True
        self._port.failure = failure
        self._notify(evt.EVT_ABORTED)

    def _released(self) -> None:
        self._log(logging.INFO, Progress.RELEASED)
        self.is_established = False
        self.is_released = True
        self._notify(evt.EVT_RELEASED)

    def _close(self) -> None:
        """Close the association, whose end has been reported."""
        try:
            self._disconnect()
        finally:
            self._memory.close()
            self._spool.close()
            self._port.end()
            self._ae.forget(self)

    def _send_last_pdu(self) -> None:
        """Stop counting the association, then send the last PDU.

        In this order, a peer that has read the PDU can associate again at once.
        """
        self._ae.forget(self)
        self._port.flush_now()

    def _disconnect(self) -> None:
        self._port.close()
        if self._open_reported:
            self._open_reported = False
            if evt.EVT_CONN_CLOSE in self.handlers.live:
                self._notify(evt.EVT_CONN_CLOSE, address=self._remote_address)

    # --- Called by the port ---

    def on_event(self, event: Event) -> None:
        """Act on the peer's release or abort, on its consent to our release, or on a violation."""
        port = self._port
        if isinstance(event, ReleaseRequested):
            self._agree_to_release()
        elif isinstance(event, ReleaseConfirmed):
            self._note_consent()
        elif isinstance(event, PeerAborted):
            pdu = event.pdu
            text = f"aborted by the peer: {pdu.source_str}, {pdu.reason_str}"
            failure = port.aborted(text, pdu.source, pdu.reason, by_peer=True)
            self._log(logging.WARNING, Progress.ABORTED, failure)
            self._gone(pdu, failure)
        elif isinstance(event, ProtocolViolated):
            error = event.error
            text = f"the peer broke the protocol: {error}"
            self._abort_violator(port.aborted(text, error.source, error.reason))

    def _agree_to_release(self) -> None:
        self._releasing = True
        self._port.stage = "release"
        self._announce(evt.EVT_ACSE_RECV, primitive=_RELEASE_RQ)
        self._announce(evt.EVT_ACSE_SENT, primitive=_RELEASE_RP)
        with _Conclusion(self):
            self._released()
            self._port.protocol.respond_release()
            self._send_last_pdu()

    def _note_consent(self) -> None:
        with _Conclusion(self):
            self._notify(evt.EVT_ACSE_RECV, primitive=_RELEASE_RP)
            self._released()
            self._send_last_pdu()

    def on_lost(self, failure: AssociationFailure) -> None:
        """Note that the connection is lost."""
        self._log(logging.WARNING, Progress.ABORTED, failure)
        self._gone(Abort(AbortSource.SERVICE_PROVIDER, AbortReason.NOT_SPECIFIED), failure)

    def _gone(self, pdu: Abort, failure: AssociationFailure) -> None:
        if self._ending:
            return
        with _Conclusion(self):
            self._disconnect()
            self._notify(evt.EVT_ACSE_RECV, primitive=pdu)
            self._aborted(failure)

    def _abort_violator(self, failure: AssociationAborted) -> None:
        """End the association; the protocol has the A-ABORT ready to be sent."""
        if self._ending:
            return
        with _Conclusion(self):
            self._log(logging.ERROR, Progress.ABORTING, failure)
            # The service user aborts after a wrong message, the Upper Layer after a wrong PDU:
            # that abort is reported as received.
            ours = failure.source == AbortSource.SERVICE_USER
            primitive = Abort(failure.source, failure.reason)
            self._notify(evt.EVT_ACSE_SENT if ours else evt.EVT_ACSE_RECV, primitive=primitive)
            self._aborted(failure)
            self._send_last_pdu()

    def on_network_timeout(self, failure: AssociationFailure) -> None:
        """End the association, since no message arrived within the network timeout."""
        if self.network_timeout_response == "A-RELEASE" and not self._port.protocol.mid_message:
            LOGGER.warning("%s", failure)
            self.release_soon()
        else:
            self.on_local_abort(failure)

    def _log(self, level: int, progress: Progress, reason: object = "") -> None:
        """Log the progress of the association; a server says of which one."""
        if not LOGGER.isEnabledFor(level):
            return
        between = self.between
        about = "" if between.is_requestor else f" {between}"
        more = f": {reason}" if reason else ""
        LOGGER.log(level, "%s%s%s", progress, about, more, extra={"dicom": between.fields})

    def _notify(self, event: evt.NotificationEvent, **attributes: Any) -> None:
        if event in self.handlers.live:
            self.handlers.notify(self, event, attributes)

    def _announce(self, event: evt.NotificationEvent, **attributes: Any) -> None:
        """Notify of `event`; raise the failure if the association ended before or in a handler."""
        self._port.check()
        if event in self.handlers.live:
            self.handlers.notify(self, event, attributes)
            self._port.check()


class _Conclusion:
    """In the block, report how an association ends; then it is closed, also after an exception."""

    __slots__ = ("_association",)

    def __init__(self, association: Lifecycle) -> None:
        self._association = association

    def __enter__(self) -> None:
        self._association._ending = True

    def __exit__(self, *_: object) -> None:
        self._association._close()


def _refused(context: PresentationContext) -> str:
    return f"{context.abstract_syntax} ({context.status})"
