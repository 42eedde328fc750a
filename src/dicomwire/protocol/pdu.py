"""The seven PDUs of the DICOM Upper Layer (PS3.8 Section 9.3): classes, encoding and decoding.

`framing` splits the stream into PDUs; `states` and `association` decide when to send them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias, TypeVar

from dicomwire.errors import AbortReason, AbortSource, RemoteProtocolError
from dicomwire.protocol.context import PresentationContext, Result, quick_uid
from dicomwire.protocol.cursor import Cursor
from dicomwire.protocol.items import (
    DEFAULT_CODECS,
    TEXT_LENGTH,
    USER_INFORMATION,
    SCP_SCU_RoleSelectionNegotiation,
    UserItem,
    decode_items,
    decode_text,
    decode_uid,
    decode_user_information,
    encode_item,
    encode_text,
    encode_uid,
)
from dicomwire.protocol.limits import Limits

if TYPE_CHECKING:
    from pydicom.uid import UID

Item = TypeVar("Item", bound=UserItem)

APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"
"""The only application context that DICOM defines (PS3.7 Annex A.2.1)."""

_APPLICATION_CONTEXT = 0x10
_PROPOSED_CONTEXT = 0x20
_ANSWERED_CONTEXT = 0x21
_ABSTRACT_SYNTAX = 0x30
_TRANSFER_SYNTAX = 0x40

_PDU_HEADER = struct.Struct(">BxI")
_PDV_LENGTH = struct.Struct(">I")
_VERSION = struct.Struct(">Hxx")
_CONTEXT_FIELDS = 4
"""Bytes before the sub-items of a presentation context."""
_TITLES_SIZE = 64
"""The called and the calling AE title of 16 bytes each, and 32 reserved bytes."""

_DEFAULT_LIMITS = Limits()


def _application_context() -> UID:
    return quick_uid(APPLICATION_CONTEXT_NAME)


class PDUType(IntEnum):
    """The first byte of a PDU (PS3.8 Section 9.3.1)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


def _encode_pdu(pdu_type: PDUType, body: bytes) -> bytes:
    return _PDU_HEADER.pack(pdu_type, len(body)) + body


# -- presentation contexts ----------------------------------------------------------------------


def _decode_proposed(view: memoryview, limits: Limits) -> PresentationContext:
    """Read an item 20H (PS3.8 Section 9.3.2.2); it may have no transfer syntax.

    An invalid context, which no acceptor can accept, gets its result here.
    """
    context_id, _, items = _context_fields(view)
    what = f"presentation context {context_id}"
    abstract_syntax: UID | None = None
    transfer_syntaxes: dict[UID, None] = {}  # each once, in order
    for item_type, value in decode_items(items, limits.transfer_syntaxes + 1, what):
        if item_type == _TRANSFER_SYNTAX:
            transfer_syntaxes[decode_uid(value)] = None
        elif item_type == _ABSTRACT_SYNTAX and abstract_syntax is None:
            abstract_syntax = decode_uid(value)
    proposed = [uid for uid in transfer_syntaxes if uid]
    result = None
    if context_id % 2 == 0:
        result = Result.PROVIDER_REJECTION
    elif not abstract_syntax:
        result = Result.ABSTRACT_SYNTAX_NOT_SUPPORTED
    return PresentationContext.from_wire(context_id, abstract_syntax or None, proposed, result)


def _decode_answered(view: memoryview, limits: Limits) -> PresentationContext:
    """Read an item 21H (PS3.8 Section 9.3.3.2).

    The transfer syntax of a rejected context is not read: it is "not significant", and some peers
    send arbitrary bytes. An accepted context may have no transfer syntax.
    """
    context_id, result, items = _context_fields(view)
    if result != Result.ACCEPTANCE:
        return PresentationContext.from_wire(context_id, None, [], result)
    what = f"answer to presentation context {context_id}"
    for item_type, value in decode_items(items, limits.transfer_syntaxes, what):
        if item_type == _TRANSFER_SYNTAX:
            uid = decode_uid(value)
            if uid:
                return PresentationContext.from_wire(context_id, None, [uid], result)
    return PresentationContext.from_wire(context_id, None, [], result)


def _context_fields(view: memoryview) -> tuple[int, int, memoryview]:
    """Return the ID and the result of a context, and its sub-items; other bytes are reserved."""
    if len(view) < _CONTEXT_FIELDS:
        raise RemoteProtocolError(
            f"presentation context: {_CONTEXT_FIELDS} bytes needed, {len(view)} present"
        )
    return view[0], view[2], view[_CONTEXT_FIELDS:]


def _context_id(context: PresentationContext) -> int:
    context_id: int | None = context.context_id
    if context_id is None:
        raise ValueError(f"presentation context {context!r} has no context_id")
    return context_id


def _encode_proposed(context: PresentationContext) -> bytes:
    context_id = _context_id(context)
    transfer_syntaxes = tuple(context.transfer_syntax)
    if not transfer_syntaxes:
        raise ValueError(f"presentation context {context_id} has no transfer syntax")
    return _proposed_item(context_id, context.abstract_syntax, transfer_syntaxes)


@lru_cache(1024)  # the contexts of eight different requests: most programs repeat one or two
def _proposed_item(context_id: int, abstract_syntax: UID, transfer_syntaxes: tuple[UID]) -> bytes:
    syntaxes = (
        encode_item(_TRANSFER_SYNTAX, encode_uid(uid, "transfer_syntax"))
        for uid in transfer_syntaxes
    )
    return encode_item(
        _PROPOSED_CONTEXT,
        bytes((context_id, 0, 0, 0))
        + encode_item(_ABSTRACT_SYNTAX, encode_uid(abstract_syntax, "abstract_syntax"))
        + b"".join(syntaxes),
    )


def _encode_answered(context: PresentationContext) -> bytes:
    context_id = _context_id(context)
    if context.result is None:
        raise ValueError(f"presentation context {context_id} has no result")
    if context.transfer_syntax:
        name = encode_uid(context.transfer_syntax[0], "transfer_syntax")
    elif context.result == Result.ACCEPTANCE:
        raise ValueError(f"presentation context {context_id} is accepted without a transfer syntax")
    else:
        name = b""
    answer = bytes((context_id, 0, context.result, 0))
    return encode_item(_ANSWERED_CONTEXT, answer + encode_item(_TRANSFER_SYNTAX, name))


_CONTEXT_ITEMS: dict[PDUType, tuple[int, Callable[[memoryview, Limits], PresentationContext]]] = {
    PDUType.ASSOCIATE_RQ: (_PROPOSED_CONTEXT, _decode_proposed),
    PDUType.ASSOCIATE_AC: (_ANSWERED_CONTEXT, _decode_answered),
}


# -- A-ASSOCIATE-RQ and -AC ---------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Associate:
    """The common part of A-ASSOCIATE-RQ and -AC: all but the presentation context items.

    `titles_received` has the received bytes of the AE titles and of the reserved field after them.
    The answer must repeat those bytes, and decoding may have changed the titles.
    """

    pdu_type: ClassVar[PDUType]

    protocol_version: int = 1
    called_ae_title: str = ""
    calling_ae_title: str = ""
    application_context_name: UID = field(default_factory=_application_context)
    presentation_contexts: list[PresentationContext] = field(default_factory=list)
    user_information: list[UserItem] = field(default_factory=list)
    titles_received: bytes = field(default=b"", repr=False, compare=False)

    def user_item(self, kind: type[Item]) -> Item | None:
        """Return the first user information item of the class `kind`, if there is one."""
        return next((item for item in self.user_information if isinstance(item, kind)), None)

    def copied(self) -> Self:
        """Return a copy that shares no object that can be changed."""
        return replace(
            self,
            presentation_contexts=[context.copied() for context in self.presentation_contexts],
            user_information=[item.copied() for item in self.user_information],
        )

    def _encode(self, titles: bytes, contexts: Iterable[bytes]) -> bytes:
        if not 0 <= self.protocol_version <= 0xFFFF:
            raise ValueError(f"protocol_version is a 16-bit number, not {self.protocol_version}")
        name = encode_uid(self.application_context_name, "application_context_name")
        user_information = b"".join(item.encode() for item in self.user_information)
        return _encode_pdu(
            self.pdu_type,
            _VERSION.pack(self.protocol_version)
            + titles
            + encode_item(_APPLICATION_CONTEXT, name)
            + b"".join(contexts)
            + encode_item(USER_INFORMATION, user_information),
        )

    @classmethod
    def decode(
        cls,
        view: memoryview | bytes,
        limits: Limits = _DEFAULT_LIMITS,
        codecs: tuple[str, ...] = DEFAULT_CODECS,
    ) -> Self:
        """Return the PDU with the body `view` (the bytes after its header).

        Items may be in any order; unknown items are skipped. Of repeated items, and of several
        answers to one context, the first counts. Proposed contexts with the same ID are all
        rejected, since data could belong to any of them. If the application context item is
        missing, its name is empty. User information may be missing.

        Raises
        ------
        RemoteProtocolError
            If a length does not fit, a value is invalid, or the PDU exceeds `limits`.
        """
        what = cls.pdu_type.name
        cursor = Cursor(view, what)
        version = cursor.u16()
        cursor.skip(2)
        titles = cursor.take(_TITLES_SIZE)
        pdu = cls(
            protocol_version=version,
            called_ae_title=decode_text(titles[:TEXT_LENGTH], codecs),
            calling_ae_title=decode_text(titles[TEXT_LENGTH : 2 * TEXT_LENGTH], codecs),
            titles_received=bytes(titles),
        )
        pdu._decode_items(cursor.rest(), limits, codecs, what)
        return pdu

    def _decode_items(
        self, view: memoryview, limits: Limits, codecs: tuple[str, ...], what: str
    ) -> None:
        context_item, decode_context = _CONTEXT_ITEMS[self.pdu_type]
        name = quick_uid("")
        user_information: list[UserItem] | None = None
        contexts: dict[int | None, PresentationContext] = {}
        count = 0
        for item_type, value in decode_items(view, limits.items, what):
            if item_type == context_item:
                count += 1
                if count > limits.contexts:
                    raise RemoteProtocolError(f"{what}: more than {limits.contexts} contexts")
                context = decode_context(value, limits)
                first = contexts.setdefault(context.context_id, context)
                if first is not context and self.pdu_type is PDUType.ASSOCIATE_RQ:
                    first.result = Result.PROVIDER_REJECTION
            elif item_type == _APPLICATION_CONTEXT and not name:
                name = decode_uid(value)
            elif item_type == USER_INFORMATION and user_information is None:
                user_information = decode_user_information(value, limits, codecs)
        self.application_context_name = name
        self.presentation_contexts = list(contexts.values())
        self.user_information = user_information or []


@dataclass(slots=True, kw_only=True)
class AssociateRQ(_Associate):
    """A-ASSOCIATE-RQ (PS3.8 Section 9.3.2).

    Bit 0 of `protocol_version` means version 1; the acceptor rejects a request without it.
    """

    pdu_type = PDUType.ASSOCIATE_RQ

    def encode(self) -> bytes:
        """Return the PDU; ValueError for a value that a request cannot have."""
        for item in self.user_information:
            if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and not (
                item.scu_role or item.scp_role
            ):
                raise ValueError(f"neither SCU nor SCP role is proposed for {item.sop_class_uid}")
        titles = (
            encode_text(self.called_ae_title, "called_ae_title").ljust(TEXT_LENGTH)
            + encode_text(self.calling_ae_title, "calling_ae_title").ljust(TEXT_LENGTH)
        ).ljust(_TITLES_SIZE, b"\0")
        ids = [context.context_id for context in self.presentation_contexts]
        if len(set(ids)) != len(ids):
            raise ValueError("two presentation contexts have the same context_id")
        return self._encode(titles, map(_encode_proposed, self.presentation_contexts))


@dataclass(slots=True, kw_only=True)
class AssociateAC(_Associate):
    """A-ASSOCIATE-AC (PS3.8 Section 9.3.3)."""

    pdu_type = PDUType.ASSOCIATE_AC

    @classmethod
    def answering(
        cls,
        request: AssociateRQ,
        presentation_contexts: list[PresentationContext],
        user_information: list[UserItem],
    ) -> AssociateAC:
        """Return an answer to `request`, with the fields that the answer must repeat."""
        return cls(
            called_ae_title=request.called_ae_title,
            calling_ae_title=request.calling_ae_title,
            presentation_contexts=presentation_contexts,
            user_information=user_information,
            titles_received=request.titles_received,
        )

    def encode(self) -> bytes:
        """Return the PDU; ValueError for a value that an answer cannot have."""
        # The requestor ignores these fields, so that even an invalid title does no harm here.
        titles = self.titles_received or (
            _encode_any_title(self.called_ae_title) + _encode_any_title(self.calling_ae_title)
        ).ljust(_TITLES_SIZE, b"\0")
        return self._encode(titles, map(_encode_answered, self.presentation_contexts))


def _encode_any_title(title: str) -> bytes:
    return title.encode("ascii", "replace")[:TEXT_LENGTH].ljust(TEXT_LENGTH)


# -- A-ASSOCIATE-RJ -----------------------------------------------------------------------------


class Rejection(Enum):
    """The rejections that we send: (result, source, diagnostic) of PS3.8 Table 9-21."""

    APPLICATION_CONTEXT_NOT_SUPPORTED = (1, 1, 2)
    CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 1, 7)
    PROTOCOL_VERSION_NOT_SUPPORTED = (1, 2, 2)
    NO_REASON_GIVEN = (2, 2, 1)
    TEMPORARY_CONGESTION = (2, 3, 1)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


_RESULTS = {1: "Rejected Permanent", 2: "Rejected Transient"}
_SOURCES = {
    1: "Service User",
    2: "Service Provider (ACSE)",
    3: "Service Provider (Presentation)",
}
_DIAGNOSTICS: dict[tuple[int, int], str] = {
    (1, 1): "No reason given",
    (1, 2): "Application context name not supported",
    (1, 3): "Calling AE title not recognised",
    (1, 7): "Called AE title not recognised",
    (2, 1): "No reason given",
    (2, 2): "Protocol version not supported",
    (3, 1): "Temporary congestion",
    (3, 2): "Local limit exceeded",
}


@dataclass(slots=True)
class AssociateRJ:
    """A-ASSOCIATE-RJ (PS3.8 Section 9.3.4) with the received values, even undefined ones."""

    pdu_type: ClassVar[PDUType] = PDUType.ASSOCIATE_RJ

    result: int
    source: int
    diagnostic: int

    @classmethod
    def because(cls, rejection: Rejection) -> AssociateRJ:
        """Return the PDU for `rejection`."""
        return cls(*rejection.value)

    @property
    def result_str(self) -> str:
        """The result in words."""
        return _RESULTS.get(self.result, f"Unknown ({self.result})")

    @property
    def source_str(self) -> str:
        """The source in words."""
        return _SOURCES.get(self.source, f"Unknown ({self.source})")

    @property
    def reason_str(self) -> str:
        """The diagnostic in words; its meaning depends on the source."""
        return _DIAGNOSTICS.get((self.source, self.diagnostic), f"Unknown ({self.diagnostic})")

    def encode(self) -> bytes:
        """Return the PDU; ValueError for a value that is not a byte."""
        return _encode_pdu(self.pdu_type, bytes((0, self.result, self.source, self.diagnostic)))

    @classmethod
    def decode(cls, view: memoryview | bytes) -> AssociateRJ:
        """Return the PDU whose body is `view`; RemoteProtocolError unless that is 4 bytes."""
        return cls(*_four_bytes(view, cls.pdu_type)[1:])


def _four_bytes(view: memoryview | bytes, pdu_type: PDUType) -> bytes:
    """Return the body of a PDU that has four bytes; any other length violates the protocol."""
    if len(view) != 4:
        raise RemoteProtocolError(f"{pdu_type.name}: a body of {len(view)} bytes, not of 4")
    return bytes(view)


# -- P-DATA-TF ----------------------------------------------------------------------------------


@dataclass(slots=True)
class PDataTF:
    """P-DATA-TF (PS3.8 Section 9.3.5), for logs and handlers; data do not pass through it.

    `values` has (context ID, message control header, fragment) for each presentation data value.
    Bit 0 of the header marks a command, bit 1 the last fragment (Annex E.2).
    """

    pdu_type: ClassVar[PDUType] = PDUType.P_DATA_TF

    values: list[tuple[int, int, bytes]] = field(default_factory=list, repr=False)

    def encode(self) -> bytes:
        """Return the PDU; ValueError without a value."""
        if not self.values:
            raise ValueError("a P-DATA-TF has at least one presentation data value")
        return _encode_pdu(
            self.pdu_type,
            b"".join(
                _PDV_LENGTH.pack(len(data) + 2) + bytes((context_id, control)) + data
                for context_id, control, data in self.values
            ),
        )

    @classmethod
    def decode(cls, view: memoryview | bytes) -> PDataTF:
        """Return the PDU whose body is `view`; RemoteProtocolError when lengths do not fit."""
        cursor = Cursor(view, cls.pdu_type.name)
        pdu = cls()
        while cursor.remaining or not pdu.values:  # at least one value is required
            value = cursor.sub(cursor.u32(), "presentation data value")
            pdu.values.append((value.u8(), value.u8(), bytes(value.rest())))
        return pdu


# -- A-RELEASE-RQ and -RP -----------------------------------------------------------------------


@dataclass(slots=True)
class _Release:
    pdu_type: ClassVar[PDUType]

    def encode(self) -> bytes:
        """Return the PDU."""
        return _encode_pdu(self.pdu_type, bytes(4))

    @classmethod
    def decode(cls, view: memoryview | bytes) -> Self:
        """Return the PDU whose body is `view`; RemoteProtocolError unless that is 4 bytes."""
        _four_bytes(view, cls.pdu_type)
        return cls()


@dataclass(slots=True)
class ReleaseRQ(_Release):
    """A-RELEASE-RQ (PS3.8 Section 9.3.6)."""

    pdu_type = PDUType.RELEASE_RQ


@dataclass(slots=True)
class ReleaseRP(_Release):
    """A-RELEASE-RP (PS3.8 Section 9.3.7)."""

    pdu_type = PDUType.RELEASE_RP


# -- A-ABORT ------------------------------------------------------------------------------------

_ABORT_SOURCES: dict[int, str] = {
    AbortSource.SERVICE_USER: "Service User",
    AbortSource.SERVICE_PROVIDER: "Service Provider",
}
_ABORT_REASONS: dict[int, str] = {
    AbortReason.NOT_SPECIFIED: "Reason not specified",
    AbortReason.UNRECOGNIZED_PDU: "Unrecognised PDU",
    AbortReason.UNEXPECTED_PDU: "Unexpected PDU",
    AbortReason.UNRECOGNIZED_PDU_PARAMETER: "Unrecognised PDU parameter",
    AbortReason.UNEXPECTED_PDU_PARAMETER: "Unexpected PDU parameter",
    AbortReason.INVALID_PDU_PARAMETER: "Invalid PDU parameter value",
}


@dataclass(slots=True)
class Abort:
    """A-ABORT (PS3.8 Section 9.3.8) with the received values, even undefined ones."""

    pdu_type: ClassVar[PDUType] = PDUType.ABORT

    source: int
    reason: int

    @property
    def source_str(self) -> str:
        """The source in words."""
        return _ABORT_SOURCES.get(self.source, f"Unknown ({self.source})")

    @property
    def reason_str(self) -> str:
        """The reason in words; an abort by a service user has no reason."""
        if self.source == AbortSource.SERVICE_USER:
            return "No reason given"
        return _ABORT_REASONS.get(self.reason, f"Unknown ({self.reason})")

    def encode(self) -> bytes:
        """Return the PDU; ValueError for a value that is not a byte."""
        return _encode_pdu(self.pdu_type, bytes((0, 0, self.source, self.reason)))

    @classmethod
    def decode(cls, view: memoryview | bytes) -> Abort:
        """Return the PDU whose body is `view`; RemoteProtocolError unless that is 4 bytes."""
        return cls(*_four_bytes(view, cls.pdu_type)[2:])


# -- all of them --------------------------------------------------------------------------------

PDU: TypeAlias = AssociateRQ | AssociateAC | AssociateRJ | PDataTF | ReleaseRQ | ReleaseRP | Abort

_SIMPLE: dict[int, Callable[[memoryview | bytes], PDU]] = {
    cls.pdu_type: cls.decode for cls in (AssociateRJ, PDataTF, ReleaseRQ, ReleaseRP, Abort)
}


def decode_pdu(
    pdu_type: int,
    body: memoryview | bytes,
    limits: Limits = _DEFAULT_LIMITS,
    codecs: tuple[str, ...] = DEFAULT_CODECS,
) -> PDU:
    """Return the PDU of the type `pdu_type` with the body `body` (the bytes after its header).

    Raises
    ------
    RemoteProtocolError
        For an unknown type, or a fault that the decoder of the type finds.
    """
    if pdu_type == PDUType.ASSOCIATE_RQ:
        return AssociateRQ.decode(body, limits, codecs)
    if pdu_type == PDUType.ASSOCIATE_AC:
        return AssociateAC.decode(body, limits, codecs)
    decode = _SIMPLE.get(pdu_type)
    if decode is None:
        raise RemoteProtocolError(f"unknown PDU type {pdu_type:02X}H", AbortReason.UNRECOGNIZED_PDU)
    return decode(body)
