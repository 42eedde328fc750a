"""Negotiation of presentation contexts and roles, and the choice of a context to send in."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain, combinations, permutations, product
from typing import Any

import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from dicomwire.protocol.context import PresentationContext, Result
from dicomwire.protocol.items import SCP_SCU_RoleSelectionNegotiation
from dicomwire.protocol.negotiation import (
    BOTH_SCU_SCP_ROLE,
    CONTEXT_REJECTED,
    DEFAULT_ROLE,
    INVERTED_ROLE,
    SCP_SCU_ROLES,
    Roles,
    choose_context,
    negotiate_as_acceptor,
    negotiate_as_requestor,
    negotiate_unrestricted,
)

VERIFICATION = UID("1.2.840.10008.1.1")
CT = UID("1.2.840.10008.5.1.4.1.1.2")
MR = UID("1.2.840.10008.5.1.4.1.1.4")
STUDY_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
WORKLIST_FIND = UID("1.2.840.10008.5.1.4.31")
HANGING_PROTOCOL_STORAGE = UID("1.2.840.10008.5.1.4.38.1")
UNKNOWN = UID("1.2.840.10008.99.99")
PRIVATE = UID("1.2.826.0.1.3680043.8.498.1")
UPS_PUSH = UID("1.2.840.10008.5.1.4.34.6.1")
UPS_WATCH = UID("1.2.840.10008.5.1.4.34.6.2")
UPS_PULL = UID("1.2.840.10008.5.1.4.34.6.3")

IMPLICIT, EXPLICIT = ImplicitVRLittleEndian, ExplicitVRLittleEndian
DEFLATED, BIG = DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
JPEG, JPEG2000 = JPEGBaseline8Bit, JPEG2000Lossless

T, F = True, False


def context(
    context_id: int | None,
    abstract_syntax: UID | None,
    *transfer_syntaxes: UID,
    roles: Roles = (None, None),
    result: int | None = None,
) -> PresentationContext:
    made = PresentationContext.from_wire(
        context_id, abstract_syntax, list(transfer_syntaxes), result
    )
    made.scu_role, made.scp_role = roles
    return made


def summary(contexts: list[PresentationContext]) -> list[tuple[object, ...]]:
    return [(cx.context_id, cx.abstract_syntax, cx.transfer_syntax, cx.result) for cx in contexts]


def roles_of(cx: PresentationContext) -> tuple[bool | None, bool | None]:
    return cx.as_scu, cx.as_scp


# -- the table of roles -------------------------------------------------------------------------

BOTH, DEFAULT, INVERTED, REJECTED = (
    BOTH_SCU_SCP_ROLE,
    DEFAULT_ROLE,
    INVERTED_ROLE,
    CONTEXT_REJECTED,
)

# PS3.7 Section D.3.3.4: proposed (SCU, SCP), supported (SCU, SCP), outcome.
ROLE_TABLE = [
    ((T, T), (T, T), BOTH),
    ((T, T), (T, F), DEFAULT),
    ((T, T), (F, T), INVERTED),
    ((T, T), (F, F), REJECTED),
    ((T, F), (T, T), DEFAULT),
    ((T, F), (T, F), DEFAULT),
    ((T, F), (F, T), REJECTED),
    ((T, F), (F, F), REJECTED),
    ((F, T), (T, T), INVERTED),
    ((F, T), (T, F), REJECTED),
    ((F, T), (F, T), INVERTED),
    ((F, T), (F, F), REJECTED),
    ((F, F), (T, T), REJECTED),
    ((F, F), (T, F), REJECTED),
    ((F, F), (F, T), REJECTED),
    ((F, F), (F, F), REJECTED),
]
every_role = pytest.mark.parametrize(("proposed", "supported", "outcome"), ROLE_TABLE)

ANY_ROLES = list(product((None, T, F), repeat=2))
LEFT_OPEN = [
    (proposed, supported)
    for proposed, supported in product(ANY_ROLES, repeat=2)
    if None in proposed or None in supported
]
every_open_role = pytest.mark.parametrize(("proposed", "supported"), LEFT_OPEN)


def test_outcomes() -> None:
    assert BOTH == (T, T, T, T)
    assert DEFAULT == (T, F, F, T)
    assert INVERTED == (F, T, T, F)
    assert REJECTED == (F, F, F, F)


def test_table_of_roles() -> None:
    assert list(SCP_SCU_ROLES) == [(T, T), (T, F), (F, T), (F, F), (None, None)]
    for outcomes in SCP_SCU_ROLES.values():
        assert outcomes.keys() == set(ANY_ROLES)
    for proposed, supported, outcome in ROLE_TABLE:
        assert SCP_SCU_ROLES[proposed][supported] == outcome
    for proposed, supported in LEFT_OPEN:
        if proposed in SCP_SCU_ROLES:
            assert SCP_SCU_ROLES[proposed][supported] == DEFAULT


@every_role
def test_roles_at_the_acceptor(proposed: Roles, supported: Roles, outcome: Roles) -> None:
    (cx,), replies = negotiate_as_acceptor(
        [context(1, CT, IMPLICIT)], [context(None, CT, IMPLICIT, roles=supported)], {CT: proposed}
    )
    if outcome == REJECTED:
        assert cx.result == Result.USER_REJECTION
        assert replies == []
    else:
        assert cx.result == Result.ACCEPTANCE
        granted = [wanted and allowed for wanted, allowed in zip(proposed, supported, strict=True)]
        assert replies == [SCP_SCU_RoleSelectionNegotiation(CT, *granted)]
    assert roles_of(cx) == outcome[2:]


@every_open_role
def test_roles_left_open_at_the_acceptor(proposed: Roles, supported: Roles) -> None:
    (cx,), replies = negotiate_as_acceptor(
        [context(1, CT, IMPLICIT)], [context(None, CT, IMPLICIT, roles=supported)], {CT: proposed}
    )
    assert cx.result == Result.ACCEPTANCE
    assert roles_of(cx) == DEFAULT[2:]
    assert replies == []


@pytest.mark.parametrize("supported", ANY_ROLES)
def test_no_roles_proposed_to_the_acceptor(supported: Roles) -> None:
    requested, own = [context(1, CT, IMPLICIT)], [context(None, CT, IMPLICIT, roles=supported)]
    for roles in (None, {}, {MR: (T, T)}):
        (cx,), replies = negotiate_as_acceptor(requested, own, roles)
        assert cx.result == Result.ACCEPTANCE
        assert roles_of(cx) == DEFAULT[2:]
        assert replies == []


@every_role
def test_roles_at_the_requestor(proposed: Roles, supported: Roles, outcome: Roles) -> None:
    (cx,) = negotiate_as_requestor(
        [context(1, CT, IMPLICIT, roles=proposed)],
        [context(1, None, IMPLICIT, result=0)],
        {CT: supported},
    )
    assert cx.result == Result.ACCEPTANCE
    assert roles_of(cx) == outcome[:2]


@every_open_role
def test_roles_left_open_at_the_requestor(proposed: Roles, supported: Roles) -> None:
    requested = [context(1, CT, IMPLICIT, roles=proposed)]
    answer = [context(1, None, IMPLICIT, result=0)]
    for replies in ({CT: supported}, {}, {MR: (T, T)}, None):
        (cx,) = negotiate_as_requestor(requested, answer, replies)
        assert roles_of(cx) == DEFAULT[:2]


@every_role
def test_both_ends_agree_on_roles(proposed: Roles, supported: Roles, outcome: Roles) -> None:
    requested = [context(1, CT, IMPLICIT, roles=proposed)]
    own = [context(None, CT, IMPLICIT, roles=supported)]
    answer, replies = negotiate_as_acceptor(requested, own, {CT: proposed})
    granted = {item.sop_class_uid: (item.scu_role, item.scp_role) for item in replies}
    (at_requestor,) = negotiate_as_requestor(requested, answer, granted)
    assert (*roles_of(at_requestor), *roles_of(answer[0])) == outcome


# -- the acceptor -------------------------------------------------------------------------------


def test_results_of_the_acceptor() -> None:
    results, replies = negotiate_as_acceptor(
        [
            context(5, CT, JPEG, EXPLICIT, IMPLICIT),
            context(1, VERIFICATION, IMPLICIT),
            context(3, MR, JPEG, JPEG2000),
            context(7, CT, EXPLICIT),
            context(9, PRIVATE, EXPLICIT, IMPLICIT),
        ],
        [
            context(None, VERIFICATION, EXPLICIT, IMPLICIT),
            context(None, CT, IMPLICIT, EXPLICIT, JPEG),
            context(None, MR, IMPLICIT),
        ],
    )
    assert summary(results) == [
        (1, VERIFICATION, [IMPLICIT], Result.ACCEPTANCE),
        (3, MR, [JPEG], Result.TRANSFER_SYNTAXES_NOT_SUPPORTED),
        (5, CT, [IMPLICIT], Result.ACCEPTANCE),
        (7, CT, [EXPLICIT], Result.ACCEPTANCE),
        (9, PRIVATE, [EXPLICIT], Result.ABSTRACT_SYNTAX_NOT_SUPPORTED),
    ]
    assert [roles_of(cx) for cx in results] == [(F, T), (F, F), (F, T), (F, T), (F, F)]
    assert replies == []


def test_every_choice_of_transfer_syntax() -> None:
    some = (IMPLICIT, EXPLICIT, JPEG)
    lists = list(chain.from_iterable(permutations(some, count) for count in range(len(some) + 1)))
    for proposed, supported in product(lists, repeat=2):
        (cx,), _ = negotiate_as_acceptor([context(1, CT, *proposed)], [context(1, CT, *supported)])
        common = [syntax for syntax in supported if syntax in proposed]
        if common:
            assert summary([cx]) == [(1, CT, common[:1], 0)]
        else:
            assert summary([cx]) == [(1, CT, list(proposed[:1]), 4)]


def test_no_contexts_at_all() -> None:
    assert negotiate_as_acceptor([], [context(None, CT, IMPLICIT)]) == ([], [])
    results, replies = negotiate_as_acceptor([context(1, CT, IMPLICIT)], [], {CT: (T, T)})
    assert [cx.result for cx in results] == [Result.ABSTRACT_SYNTAX_NOT_SUPPORTED]
    assert replies == []


def test_a_context_without_abstract_syntax_is_not_supported() -> None:
    for negotiate in (negotiate_as_acceptor, negotiate_unrestricted):
        (cx,), replies = negotiate([context(1, None)], [context(None, CT, IMPLICIT)])
        assert cx.result in (3, 4)
        assert replies == []


def test_one_role_reply_for_each_sop_class() -> None:
    results, replies = negotiate_as_acceptor(
        [
            context(1, CT, JPEG),
            context(3, CT, IMPLICIT),
            context(5, CT, EXPLICIT),
            context(7, MR, JPEG),
        ],
        [
            context(None, CT, IMPLICIT, EXPLICIT, roles=(T, T)),
            context(None, MR, IMPLICIT, roles=(T, T)),
        ],
        {CT: (T, T), MR: (T, T), PRIVATE: (T, T)},
    )
    assert [cx.result for cx in results] == [4, 0, 0, 4]
    assert [roles_of(cx) for cx in results] == [(F, F), (T, T), (T, T), (F, F)]
    assert replies == [SCP_SCU_RoleSelectionNegotiation(CT, T, T)]


def test_nothing_that_was_given_is_changed() -> None:
    requested, own = context(1, CT, IMPLICIT, EXPLICIT), context(None, CT, EXPLICIT, IMPLICIT)
    (accepted,), _ = negotiate_as_acceptor([requested], [own])
    assert requested == context(1, CT, IMPLICIT, EXPLICIT)
    assert own == context(None, CT, EXPLICIT, IMPLICIT)
    accepted.transfer_syntax.append(JPEG)
    assert own.transfer_syntax == [EXPLICIT, IMPLICIT]


# -- the acceptor that stores anything ----------------------------------------------------------


@pytest.mark.parametrize("uid", [CT, PRIVATE, UNKNOWN])
@pytest.mark.parametrize("supported", [[], [context(None, CT, IMPLICIT, roles=(T, F))]])
def test_unrestricted_storage(uid: UID, supported: list[PresentationContext]) -> None:
    (cx,), replies = negotiate_unrestricted([context(1, uid, JPEG, IMPLICIT)], supported)
    assert summary([cx]) == [(1, uid, [JPEG], Result.ACCEPTANCE)]
    assert roles_of(cx) == (T, T)
    assert replies == []


@pytest.mark.parametrize("uid", [CT, PRIVATE, UNKNOWN])
@pytest.mark.parametrize(
    ("proposed", "outcome"),
    [((T, T), BOTH), ((T, F), DEFAULT), ((F, T), INVERTED), ((F, F), REJECTED)],
)
def test_unrestricted_storage_with_roles(uid: UID, proposed: Roles, outcome: Roles) -> None:
    (cx,), replies = negotiate_unrestricted([context(1, uid, IMPLICIT)], [], {uid: proposed})
    assert roles_of(cx) == outcome[2:]
    if outcome == REJECTED:
        assert (cx.result, replies) == (Result.USER_REJECTION, [])
    else:
        assert cx.result == Result.ACCEPTANCE
        assert replies == [SCP_SCU_RoleSelectionNegotiation(uid, *proposed)]


@pytest.mark.parametrize(
    "uid", [VERIFICATION, STUDY_FIND, WORKLIST_FIND, HANGING_PROTOCOL_STORAGE, UPS_PUSH]
)
def test_other_services_stay_restricted(uid: UID) -> None:
    requested = [context(1, uid, EXPLICIT, IMPLICIT)]
    (cx,), _ = negotiate_unrestricted(requested, [])
    assert summary([cx]) == [(1, uid, [EXPLICIT], Result.ABSTRACT_SYNTAX_NOT_SUPPORTED)]
    (cx,), _ = negotiate_unrestricted(requested, [context(None, uid, IMPLICIT)])
    assert summary([cx]) == [(1, uid, [IMPLICIT], Result.ACCEPTANCE)]
    assert roles_of(cx) == DEFAULT[2:]


def test_role_replies_of_other_services_are_not_lost() -> None:
    results, replies = negotiate_unrestricted(
        [context(1, STUDY_FIND, IMPLICIT), context(3, CT, IMPLICIT)],
        [context(None, STUDY_FIND, IMPLICIT, roles=(T, T))],
        {STUDY_FIND: (F, T), CT: (F, T)},
    )
    assert [roles_of(cx) for cx in results] == [(T, F), (T, F)]
    assert replies == [
        SCP_SCU_RoleSelectionNegotiation(STUDY_FIND, F, T),
        SCP_SCU_RoleSelectionNegotiation(CT, F, T),
    ]


# -- the requestor ------------------------------------------------------------------------------


def test_the_requestor_needs_contexts() -> None:
    with pytest.raises(ValueError, match="no requested presentation contexts"):
        negotiate_as_requestor([], [])


def test_results_of_the_requestor() -> None:
    results = negotiate_as_requestor(
        [
            context(7, CT, IMPLICIT),
            context(1, VERIFICATION, IMPLICIT, EXPLICIT),
            context(3, CT, JPEG, EXPLICIT),
            context(5, MR, JPEG, IMPLICIT),
            context(9, MR, EXPLICIT),
            context(11, PRIVATE, EXPLICIT),
        ],
        [
            context(3, None, EXPLICIT, result=0),
            context(1, None, EXPLICIT, IMPLICIT, result=0),
            context(5, None, IMPLICIT, result=4),
            context(9, None, result=0),
            context(11, None, EXPLICIT),
            context(99, None, EXPLICIT, result=0),
        ],
    )
    assert summary(results) == [
        (1, VERIFICATION, [EXPLICIT], Result.ACCEPTANCE),
        (3, CT, [EXPLICIT], Result.ACCEPTANCE),
        (5, MR, [JPEG], Result.TRANSFER_SYNTAXES_NOT_SUPPORTED),
        (7, CT, [IMPLICIT], Result.PROVIDER_REJECTION),
        (9, MR, [EXPLICIT], Result.TRANSFER_SYNTAXES_NOT_SUPPORTED),
        (11, PRIVATE, [EXPLICIT], Result.PROVIDER_REJECTION),
    ]
    assert [roles_of(cx) for cx in results] == [(T, F)] * 2 + [(F, F)] * 4


@pytest.mark.parametrize("result", [1, 2, 3, 4, 5, 255])
def test_rejections_are_passed_on(result: int) -> None:
    (cx,) = negotiate_as_requestor(
        [context(1, CT, IMPLICIT, roles=(T, T))], [context(1, None, result=result)], {CT: (T, T)}
    )
    assert cx.result == result
    assert roles_of(cx) == (F, F)


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("proposed", [(F, T), (T, T), (T, F), (None, None)])
def test_the_requestor_knows_where_its_proposal_to_be_scp_was_not_answered(
    proposed: Roles, answered: bool
) -> None:
    requested = [context(1, CT, IMPLICIT, roles=proposed), context(3, MR, IMPLICIT, roles=(F, T))]
    accepted = [context(each.context_id, None, IMPLICIT, result=0) for each in requested]
    replies: dict[UID, Roles] = {MR: (F, T)} if answered else {}
    first, second = negotiate_as_requestor(requested, accepted, replies)
    assert (first.as_scu, first.as_scp) == (True, False)
    assert first.scp_unanswered is (proposed[1] is True and not answered)
    assert (second.as_scp, second.scp_unanswered) == (answered, not answered)
    copied = deepcopy(first)
    assert copied.scp_unanswered is first.scp_unanswered
    first.become_scp()
    assert (first.as_scu, first.as_scp, first.scp_unanswered) == (True, True, False)


@pytest.mark.parametrize("negotiate", [negotiate_as_acceptor, negotiate_unrestricted])
def test_what_nobody_could_accept_is_rejected_as_it_came(negotiate: Any) -> None:
    requested = [context(2, CT, IMPLICIT, result=2), context(1, None, IMPLICIT, result=3)]
    results, _ = negotiate(requested, [context(None, CT, IMPLICIT)])
    assert [(each.context_id, each.result) for each in results] == [(1, 3), (2, 2)]


def test_a_context_without_abstract_syntax_has_the_default_role() -> None:
    (cx,) = negotiate_as_requestor(
        [context(1, None, IMPLICIT)], [context(1, None, IMPLICIT, result=0)], {CT: (T, T)}
    )
    assert roles_of(cx) == (T, F)


# -- the choice of a context --------------------------------------------------------------------


def accepted(
    context_id: int, uid: UID, syntax: UID, as_scu: bool = True, as_scp: bool = False
) -> PresentationContext:
    made = context(context_id, uid, syntax, result=0)
    made._as_scu, made._as_scp = as_scu, as_scp
    return made


def chosen(contexts: list[PresentationContext], *args: object, **kwargs: object) -> int | None:
    choice = choose_context(contexts, *args, **kwargs)  # type: ignore[arg-type]
    return None if choice is None else choice.context_id


def test_the_first_context_of_the_abstract_syntax() -> None:
    contexts = [accepted(1, MR, IMPLICIT), accepted(3, CT, JPEG), accepted(5, CT, IMPLICIT)]
    assert chosen(contexts, CT) == 3
    assert chosen(contexts, MR) == 1
    assert chosen(contexts, VERIFICATION) is None
    assert chosen([], CT) is None


@pytest.mark.parametrize(("as_scu", "as_scp"), list(product((T, F), repeat=2)))
def test_the_role_must_have_been_negotiated(as_scu: bool, as_scp: bool) -> None:
    contexts = [accepted(1, CT, IMPLICIT, as_scu, as_scp)]
    assert chosen(contexts, CT) == 1
    assert chosen(contexts, CT, as_scu=True) == (1 if as_scu else None)


def test_the_exact_transfer_syntax_wins() -> None:
    contexts = [accepted(1, CT, IMPLICIT), accepted(3, CT, EXPLICIT), accepted(5, CT, JPEG)]
    assert chosen(contexts, CT, IMPLICIT) == 1
    assert chosen(contexts, CT, EXPLICIT) == 3
    assert chosen(contexts, CT, JPEG) == 5
    assert chosen(contexts, CT, DEFLATED) == 1


CONVERTIBLE = [{IMPLICIT, EXPLICIT, DEFLATED}, {BIG}]
SYNTAXES = [IMPLICIT, EXPLICIT, DEFLATED, BIG, JPEG, JPEG2000, PRIVATE]


@pytest.mark.parametrize(("have", "need"), list(product(SYNTAXES, repeat=2)))
def test_conversions(have: UID, need: UID) -> None:
    convertible = have == need or any({have, need} <= group for group in CONVERTIBLE)
    contexts = [accepted(1, CT, have)]
    assert chosen(contexts, CT, need) == (1 if convertible else None)


def test_every_small_set_of_contexts() -> None:
    offers = [
        accepted(1, CT, BIG),
        accepted(3, CT, JPEG),
        accepted(5, CT, EXPLICIT),
        accepted(7, CT, IMPLICIT, as_scu=False, as_scp=True),
        accepted(9, MR, IMPLICIT),
    ]
    preferences = {  # context ids for CT as SCU, best first
        IMPLICIT: [5],
        EXPLICIT: [5],
        DEFLATED: [5],
        BIG: [1],
        JPEG: [3],
        JPEG2000: [],
    }
    for size in range(len(offers) + 1):
        for contexts in combinations(offers, size):
            ids = {cx.context_id for cx in contexts}
            for syntax, wanted in preferences.items():
                expected = next((number for number in wanted if number in ids), None)
                assert chosen(list(contexts), CT, syntax, as_scu=True) == expected


def test_ups_push_falls_back_to_another_ups_context() -> None:
    contexts = [accepted(1, CT, IMPLICIT), accepted(3, UPS_PULL, IMPLICIT)]
    assert chosen(contexts, UPS_PUSH) == 3
    assert chosen(contexts, UPS_PUSH, IMPLICIT, as_scu=True) == 3
    assert chosen(contexts, UPS_WATCH) is None
    contexts.append(accepted(5, UPS_WATCH, EXPLICIT))
    assert chosen(contexts, UPS_PUSH, EXPLICIT) == 5
    contexts.append(accepted(7, UPS_PUSH, EXPLICIT))
    assert chosen(contexts, UPS_PUSH) == 7
