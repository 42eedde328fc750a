"""Hypothesis strategies for what travels in PDUs, and ways to damage it.

Everything here is made by hand from PS3.8 and PS3.7; nothing calls the decoders under test.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from hypothesis import strategies as st
from pydicom.uid import UID

from dicomwire.errors import AbortReason, AbortSource, RemoteProtocolError
from dicomwire.protocol import items, pdu
from dicomwire.protocol.context import PresentationContext, Result, quick_uid

# -- values -------------------------------------------------------------------------------------

_COMPONENTS = st.integers(min_value=0, max_value=99999).map(str)
uids: st.SearchStrategy[UID] = (
    st.lists(_COMPONENTS, min_size=1, max_size=9)
    .map(lambda components: quick_uid(".".join(["1", "2", *components])[:64].rstrip(".")))
    .filter(lambda uid: len(uid) <= 64)
)

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
byte = st.integers(0, 0xFF)
blobs = st.binary(max_size=40)

_PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\")
titles = st.text(_PRINTABLE, min_size=1, max_size=16).map(lambda text: text.strip(" ")).filter(bool)

# -- user information items -----------------------------------------------------------------------

maximum_lengths = st.builds(items.MaximumLengthNotification, u32)
class_uids = st.builds(items.ImplementationClassUIDNotification, uids)
version_names = st.builds(items.ImplementationVersionNameNotification, titles)
windows = st.builds(items.AsynchronousOperationsWindowNegotiation, u16, u16)
role_selections = st.builds(
    items.SCP_SCU_RoleSelectionNegotiation, uids, st.booleans(), st.booleans()
)
proposed_roles = role_selections.filter(lambda item: item.scu_role or item.scp_role)
extended = st.builds(items.SOPClassExtendedNegotiation, uids, blobs)
common_extended = st.builds(
    items.SOPClassCommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=4)
)
identities = st.builds(
    items.UserIdentityNegotiation, st.integers(1, 5), st.booleans(), blobs, blobs
)
identity_answers = st.builds(items.UserIdentityNegotiation, server_response=blobs)

request_items = st.one_of(
    maximum_lengths,
    class_uids,
    version_names,
    windows,
    proposed_roles,
    extended,
    common_extended,
    identities,
)
answer_items = st.one_of(
    maximum_lengths, class_uids, version_names, windows, role_selections, extended, identity_answers
)
user_items = st.one_of(request_items, answer_items)


def _item_key(item: items.UserItem) -> tuple[object, ...]:
    return type(item), getattr(item, "sop_class_uid", None)


def _distinct(strategy: st.SearchStrategy[items.UserItem]) -> st.SearchStrategy[list]:
    return st.lists(strategy, max_size=6, unique_by=_item_key)


request_user_information = _distinct(request_items)
answer_user_information = _distinct(answer_items)

# -- presentation contexts -----------------------------------------------------------------------

context_ids = st.integers(0, 127).map(lambda number: 2 * number + 1)


def _by_id(strategy: st.SearchStrategy[PresentationContext]) -> st.SearchStrategy[list]:
    return st.lists(strategy, max_size=4, unique_by=lambda context: context.context_id)


proposed_contexts = _by_id(
    st.builds(
        PresentationContext.from_wire,
        context_ids,
        uids,
        st.lists(uids, min_size=1, max_size=4, unique=True),
    )
)
answered_contexts = _by_id(
    st.one_of(
        st.builds(
            PresentationContext.from_wire,
            context_ids,
            st.none(),
            st.lists(uids, min_size=1, max_size=1),
            st.just(int(Result.ACCEPTANCE)),
        ),
        st.builds(
            PresentationContext.from_wire,
            context_ids,
            st.none(),
            st.just([]),
            st.integers(1, 4),
        ),
    )
)

# -- PDUs ----------------------------------------------------------------------------------------

associate_requests = st.builds(
    pdu.AssociateRQ,
    protocol_version=u16,
    called_ae_title=titles,
    calling_ae_title=titles,
    application_context_name=uids,
    presentation_contexts=proposed_contexts,
    user_information=request_user_information,
)
associate_answers = st.builds(
    pdu.AssociateAC,
    protocol_version=u16,
    called_ae_title=titles,
    calling_ae_title=titles,
    application_context_name=uids,
    presentation_contexts=answered_contexts,
    user_information=answer_user_information,
)
rejections = st.builds(pdu.AssociateRJ, byte, byte, byte)
data_transfers = st.builds(
    pdu.PDataTF, st.lists(st.tuples(byte, byte, blobs), min_size=1, max_size=4)
)
aborts = st.builds(pdu.Abort, byte, byte)
pdus: st.SearchStrategy[pdu.PDU] = st.one_of(
    associate_requests,
    associate_answers,
    rejections,
    data_transfers,
    st.builds(pdu.ReleaseRQ),
    st.builds(pdu.ReleaseRP),
    aborts,
)

# -- bytes by hand --------------------------------------------------------------------------------


def item(item_type: int, value: bytes = b"") -> bytes:
    """An item or sub-item."""
    return struct.pack(">BxH", item_type, len(value)) + value


def counted(value: bytes) -> bytes:
    """A value behind its length in 16 bits."""
    return struct.pack(">H", len(value)) + value


# -- damage --------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of `whole` of which some were changed, taken away or put in."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(("change", "remove", "insert")))
        if kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=6))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 6))]
        elif at < len(data):
            data[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | byte)
    return bytes(data)


def truncations(data: bytes) -> Iterator[bytes]:
    """Every beginning of `data`, from nothing to all but the last byte."""
    return (data[:size] for size in range(len(data)))


def wrong_lengths(data: bytes, offset: int, size: int = 2) -> Iterator[bytes]:
    """`data` with the length field of `size` bytes at `offset` set to each value worth a test."""
    actual = int.from_bytes(data[offset : offset + size], "big")
    values = {0, 1, actual - 1, actual + 1, 0xFFFF}
    if size == 4:
        values |= {1 << 31, 0xFFFFFFFF}
    for value in sorted(values - {-1, actual}):
        yield data[:offset] + value.to_bytes(size, "big") + data[offset + size :]


def decoded_or_refused(decode: Callable[[bytes], object], data: bytes) -> object:
    """What `decode` makes of `data`: a value, or the violation that an A-ABORT will tell of."""
    try:
        return decode(data)
    except RemoteProtocolError as error:
        refusal = error
    assert refusal.reason is AbortReason.INVALID_PDU_PARAMETER
    assert refusal.source is AbortSource.SERVICE_PROVIDER
    return refusal
