"""Presentation contexts and roles: what an acceptor grants, what a requestor may then use.

Pure functions over contexts. Where contexts come from, and what travels in them, is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Literal, NamedTuple, TypeAlias

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomwire.protocol.context import PresentationContext, Result
from dicomwire.protocol.items import SCP_SCU_RoleSelectionNegotiation
from dicomwire.registry.services import REGISTRY, Service
from dicomwire.registry.tables import UnifiedProcedureStepPush

Roles: TypeAlias = tuple[bool | None, bool | None]
"""Whether the requestor may be SCU, and SCP: proposed or supported; None for not negotiated."""


class Outcome(NamedTuple):
    """What each end of an association may be in a presentation context."""

    requestor_as_scu: bool
    requestor_as_scp: bool
    acceptor_as_scu: bool
    acceptor_as_scp: bool


DEFAULT_ROLE = Outcome(True, False, False, True)
BOTH_SCU_SCP_ROLE = Outcome(True, True, True, True)
INVERTED_ROLE = Outcome(False, True, True, False)
CONTEXT_REJECTED = Outcome(False, False, False, False)

_BOTH, _SCU, _SCP, _NEITHER = (True, True), (True, False), (False, True), (False, False)

# PS3.7 Section D.3.3.4, by what the requestor proposes and what the acceptor supports.
_NEGOTIATED: dict[Roles, dict[Roles, Outcome]] = {
    _BOTH: {
        _BOTH: BOTH_SCU_SCP_ROLE,
        _SCU: DEFAULT_ROLE,
        _SCP: INVERTED_ROLE,
        _NEITHER: CONTEXT_REJECTED,
    },
    _SCU: {
        _BOTH: DEFAULT_ROLE,
        _SCU: DEFAULT_ROLE,
        _SCP: CONTEXT_REJECTED,
        _NEITHER: CONTEXT_REJECTED,
    },
    _SCP: {
        _BOTH: INVERTED_ROLE,
        _SCU: CONTEXT_REJECTED,
        _SCP: INVERTED_ROLE,
        _NEITHER: CONTEXT_REJECTED,
    },
    _NEITHER: dict.fromkeys((_BOTH, _SCU, _SCP, _NEITHER), CONTEXT_REJECTED),
    (None, None): {},
}

SCP_SCU_ROLES: dict[Roles, dict[Roles, Outcome]] = {
    proposed: {
        (scu, scp): outcomes.get((scu, scp), DEFAULT_ROLE)
        for scu in (None, True, False)
        for scp in (None, True, False)
    }
    for proposed, outcomes in _NEGOTIATED.items()
}
"""The outcome by proposed and supported roles, where None on either side leaves the default."""


def _outcome(proposed: Roles, supported: Roles) -> Outcome:
    # A proposal with one role alone left open is as good as none.
    return SCP_SCU_ROLES.get(proposed, {}).get(supported, DEFAULT_ROLE)


# -- the acceptor ---------------------------------------------------------------------------------


class _Offer(NamedTuple):
    """What an acceptor has for one requested context."""

    transfer_syntaxes: list[UID]
    supported: Roles
    unasked: Outcome = DEFAULT_ROLE  # where the requestor proposes no roles


def negotiate_as_acceptor(
    rq_contexts: list[PresentationContext],
    ac_contexts: list[PresentationContext],
    roles: dict[UID, Roles] | None = None,
) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """Return the acceptor's answer to requested contexts (PS3.8 Section 9.3.3.2).

    The transfer syntax of an accepted context is the first of the acceptor's own that was
    proposed; a rejected one keeps the first that was proposed, which means nothing.

    Parameters
    ----------
    rq_contexts : list of PresentationContext
        What the requestor proposes.
    ac_contexts : list of PresentationContext
        What the acceptor supports; its roles are those it allows the requestor.
    roles : dict, optional
        The (scu, scp) roles that the requestor proposes by SOP class UID.

    Returns
    -------
    tuple
        A context with result for each requested one, by id, and the role selections to reply.
    """
    supported = _by_abstract_syntax(ac_contexts)
    return _answer(rq_contexts, lambda requested: _own_offer(supported, requested), roles or {})


def negotiate_unrestricted(
    rq_contexts: list[PresentationContext],
    ac_contexts: list[PresentationContext],
    roles: dict[UID, Roles] | None = None,
) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """Return the answer of an acceptor that stores anything, known SOP class or not.

    Storage, private and unknown abstract syntaxes are accepted with their first transfer syntax
    and any roles; those of other services as `negotiate_as_acceptor` does.
    """
    supported = _by_abstract_syntax(ac_contexts)

    def offer_for(requested: PresentationContext) -> _Offer | None:
        entry = REGISTRY.get(requested.abstract_syntax or "")
        if entry is not None and entry.service is not Service.STORAGE:
            return _own_offer(supported, requested)
        return _Offer(requested.transfer_syntax, _BOTH, unasked=BOTH_SCU_SCP_ROLE)

    return _answer(rq_contexts, offer_for, roles or {})


_ABSTRACT_SYNTAX = attrgetter("_abstract_syntax")


def _by_abstract_syntax(
    contexts: list[PresentationContext],
) -> dict[UID | None, PresentationContext]:
    # A server supports well over a hundred, and does this for each association.
    return dict(zip(map(_ABSTRACT_SYNTAX, contexts), contexts, strict=True))


def _own_offer(
    supported: dict[UID | None, PresentationContext], requested: PresentationContext
) -> _Offer | None:
    context = supported.get(requested.abstract_syntax)
    if context is None:
        return None
    return _Offer(context.transfer_syntax, (context.scu_role, context.scp_role))


def _answer(
    rq_contexts: list[PresentationContext],
    offer_for: Callable[[PresentationContext], _Offer | None],
    roles: dict[UID, Roles],
) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """Return the result of each requested context, and one role reply for each SOP class."""
    results = []
    replies = {}
    for requested in sorted(rq_contexts, key=_id):
        uid = requested.abstract_syntax
        offer = offer_for(requested)
        proposed = roles.get(uid) if uid is not None else None
        context = _answer_one(requested, offer, proposed)
        results.append(context)
        if context.result == Result.ACCEPTANCE and offer is not None and proposed is not None:
            selection = _role_reply(uid, proposed, offer.supported)
            if selection is not None:
                replies[uid] = selection
    return results, list(replies.values())


def _answer_one(
    requested: PresentationContext, offer: _Offer | None, proposed: Roles | None
) -> PresentationContext:
    """Return the result of one requested context."""
    if requested.result is not None:  # nobody could accept it
        return _rejected(requested, requested.result)
    if offer is None:
        return _rejected(requested, Result.ABSTRACT_SYNTAX_NOT_SUPPORTED)
    among = set(requested.transfer_syntax)
    syntax = next((uid for uid in offer.transfer_syntaxes if uid in among), None)
    if syntax is None:
        return _rejected(requested, Result.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    outcome = offer.unasked if proposed is None else _outcome(proposed, offer.supported)
    if outcome == CONTEXT_REJECTED:
        return _rejected(requested, Result.USER_REJECTION)
    return _accepted(requested, syntax, outcome.acceptor_as_scu, outcome.acceptor_as_scp)


def _role_reply(
    uid: UID | None, proposed: Roles, supported: Roles
) -> SCP_SCU_RoleSelectionNegotiation | None:
    """Return what the acceptor grants of the roles proposed; None where it does not negotiate."""
    if None in proposed or None in supported:
        return None
    scu = bool(proposed[0] and supported[0])
    scp = bool(proposed[1] and supported[1])
    return SCP_SCU_RoleSelectionNegotiation(uid, scu, scp)


# -- the requestor --------------------------------------------------------------------------------


def negotiate_as_requestor(
    rq_contexts: list[PresentationContext],
    ac_contexts: list[PresentationContext],
    roles: dict[UID, Roles] | None = None,
) -> list[PresentationContext]:
    """Return the requested contexts as the acceptor's answer leaves them.

    Parameters
    ----------
    rq_contexts : list of PresentationContext
        What was requested, with the roles that were proposed.
    ac_contexts : list of PresentationContext
        The acceptor's results; one that is not there counts as rejected by the provider, and so
        does one in a transfer syntax that was not proposed.
    roles : dict, optional
        The acceptor's role replies by SOP class UID; none leaves the default roles.

    Raises
    ------
    ValueError
        If nothing was requested.
    """
    if not rq_contexts:
        raise ValueError("there are no requested presentation contexts")
    answers = {context.context_id: context for context in ac_contexts}
    replies = roles or {}
    results = []
    for requested in sorted(rq_contexts, key=_id):
        answer = answers.get(requested.context_id)
        if answer is None or answer.result is None:
            results.append(_rejected(requested, Result.PROVIDER_REJECTION))
        elif answer.result != Result.ACCEPTANCE:
            results.append(_rejected(requested, answer.result))
        elif not any(syntax in requested.transfer_syntax for syntax in answer.transfer_syntax[:1]):
            results.append(_rejected(requested, Result.TRANSFER_SYNTAXES_NOT_SUPPORTED))
        else:
            uid = requested.abstract_syntax
            granted: Roles = replies.get(uid, (None, None)) if uid is not None else (None, None)
            outcome = _outcome((requested.scu_role, requested.scp_role), granted)
            context = _accepted(
                requested,
                answer.transfer_syntax[0],
                outcome.requestor_as_scu,
                outcome.requestor_as_scp,
            )
            context._scp_unanswered = bool(requested.scp_role) and not replies
            results.append(context)
    return results


# -- what both ends share -------------------------------------------------------------------------


def _id(context: PresentationContext) -> int:
    return context.context_id or 0


def _accepted(
    requested: PresentationContext, syntax: UID, as_scu: bool, as_scp: bool
) -> PresentationContext:
    context = PresentationContext.from_wire(
        requested.context_id, requested.abstract_syntax, [syntax], Result.ACCEPTANCE
    )
    context._as_scu, context._as_scp = as_scu, as_scp
    return context


def _rejected(requested: PresentationContext, result: int) -> PresentationContext:
    context = PresentationContext.from_wire(
        requested.context_id, requested.abstract_syntax, requested.transfer_syntax[:1], result
    )
    context._as_scu = context._as_scp = False
    return context


# -- the choice of a context ----------------------------------------------------------------------

# Datasets convert freely between transfer syntaxes of one byte order. Across, only the data type
# of a value tells how to swap its bytes, and that of private elements may not be known.
_BYTE_ORDER: dict[str, str] = {
    ImplicitVRLittleEndian: "little",
    ExplicitVRLittleEndian: "little",
    DeflatedExplicitVRLittleEndian: "little",
    ExplicitVRBigEndian: "big",
}


def choose_context(
    accepted: Iterable[PresentationContext],
    abstract_syntax: str,
    transfer_syntax: str | None = None,
    role: Literal["scu", "scp"] | None = None,
    context_id: int | None = None,
    *,
    allow_conversion: bool = True,
) -> PresentationContext | None:
    """Return the accepted context that a message may go in, or None where there is none.

    Parameters
    ----------
    accepted : iterable of PresentationContext
        The accepted contexts; of several that fit the first is taken.
    abstract_syntax : str
        The (Meta) SOP class. UPS Push messages go in the context of any other UPS SOP class
        where Push has none of its own (PS3.4 Annex CC).
    transfer_syntax : str, optional
        How the dataset is encoded; None for any.
    role : {"scu", "scp"}, optional
        The role to have been negotiated for this end; None for any.
    context_id : int, optional
        The only context to consider.
    allow_conversion : bool
        Whether, where no context has the transfer syntax, one that the dataset can be converted
        to will do: neither is compressed, and the byte order is the same.
    """
    contexts = list(accepted)
    fitting = [
        context
        for context in _of_abstract_syntax(contexts, abstract_syntax)
        if (context_id is None or context.context_id == context_id)
        and (role != "scu" or context.as_scu)
        and (role != "scp" or context.as_scp)
    ]
    if transfer_syntax is None:
        return fitting[0] if fitting else None
    for context in fitting:
        if context.transfer_syntax[0] == transfer_syntax:
            return context
    order = _BYTE_ORDER.get(transfer_syntax)
    if allow_conversion and order is not None:
        for context in fitting:
            if _BYTE_ORDER.get(context.transfer_syntax[0]) == order:
                return context
    return None


def _of_abstract_syntax(
    contexts: list[PresentationContext], abstract_syntax: str
) -> list[PresentationContext]:
    exact = [context for context in contexts if context.abstract_syntax == abstract_syntax]
    if exact or abstract_syntax != UnifiedProcedureStepPush:
        return exact
    procedure_steps = Service.UNIFIED_PROCEDURE_STEP.sop_classes
    return [context for context in contexts if context.abstract_syntax in procedure_steps]
