"""Status codes of DIMSE responses: their categories, and a table for each service class.

The modules of `services` choose the statuses of responses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

STATUS_SUCCESS = "Success"
STATUS_FAILURE = "Failure"
STATUS_WARNING = "Warning"
STATUS_CANCEL = "Cancel"
STATUS_PENDING = "Pending"
STATUS_UNKNOWN = "Unknown"

Meaning: TypeAlias = tuple[str, str]
"""A status category and a description, which may be empty."""


class Status(IntEnum):
    """Codes that have a name; the tables below have all codes."""

    SUCCESS = 0x0000
    CANCEL = 0xFE00
    PENDING = 0xFF00
    MOVE_DESTINATION_UNKNOWN = 0xA801

    @classmethod
    def add(cls, name: str, code: int) -> None:
        """Add `code` as ``Status.<name>``; it is a plain int, because an enum cannot grow."""
        setattr(cls, name, code)


class StatusTable(Mapping[int, Meaning]):
    """The statuses of a service: a read-only dict of code to (category, description).

    Ranges such as Cxxx are stored as ranges, because a dict would need 4,096 entries for each. The
    entry of a single code takes precedence over a range that contains the code.
    """

    __slots__ = ("_codes", "_length", "_ranges")

    def __init__(self, meanings: Mapping[int | range, Meaning]) -> None:
        self._codes = {key: value for key, value in meanings.items() if isinstance(key, int)}
        self._ranges = {key: value for key, value in meanings.items() if isinstance(key, range)}
        listed_twice = sum(code in codes for codes in self._ranges for code in self._codes)
        self._length = len(self._codes) + sum(map(len, self._ranges)) - listed_twice

    def __getitem__(self, code: int) -> Meaning:
        meaning = self._codes.get(code)
        if meaning is not None:
            return meaning
        for codes, meaning in self._ranges.items():
            if code in codes:
                return meaning
        raise KeyError(code)

    def __iter__(self) -> Iterator[int]:
        in_ranges = chain.from_iterable(self._ranges)
        return chain(self._codes, (code for code in in_ranges if code not in self._codes))

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"<StatusTable of {self._length} codes>"


def described(code: int, table: StatusTable) -> str:
    """Return a status as code, category and, where `table` has one, description."""
    _, description = table.get(code, ("", ""))
    return f"0x{code:04X} - {code_to_category(code)}" + (f": {description}" if description else "")


# PS3.7 Annex C: the statuses of any DIMSE service.
_GENERAL: dict[int, Meaning] = {
    0x0000: (STATUS_SUCCESS, ""),
    0x0105: (STATUS_FAILURE, "No such attribute"),
    0x0106: (STATUS_FAILURE, "Invalid attribute value"),
    0x0107: (STATUS_WARNING, "Attributes not recognized"),
    0x0110: (STATUS_FAILURE, "Processing failed"),
    0x0111: (STATUS_FAILURE, "SOP instance exists already"),
    0x0112: (STATUS_FAILURE, "No such SOP instance"),
    0x0113: (STATUS_FAILURE, "No such event type"),
    0x0114: (STATUS_FAILURE, "No such argument"),
    0x0115: (STATUS_FAILURE, "Invalid argument value"),
    0x0116: (STATUS_WARNING, "Attribute value out of range"),
    0x0117: (STATUS_FAILURE, "Invalid SOP instance UID"),
    0x0118: (STATUS_FAILURE, "No such SOP class"),
    0x0119: (STATUS_FAILURE, "SOP instance is not of that SOP class"),
    0x0120: (STATUS_FAILURE, "Required attribute missing"),
    0x0121: (STATUS_FAILURE, "Required attribute without value"),
    0x0122: (STATUS_FAILURE, "SOP class not supported"),
    0x0123: (STATUS_FAILURE, "No such action type"),
    0x0124: (STATUS_FAILURE, "Not authorized"),
    0x0210: (STATUS_FAILURE, "Message ID in use already"),
    0x0211: (STATUS_FAILURE, "Operation not recognized"),
    0x0212: (STATUS_FAILURE, "Argument not negotiated for the association"),
    0x0213: (STATUS_FAILURE, "Resource limitation"),
    0xFE00: (STATUS_CANCEL, "Ended by a cancel request"),
}


def _table(
    *,
    failure: Mapping[int | range, str] | None = None,
    warning: Mapping[int | range, str] | None = None,
    pending: Mapping[int | range, str] | None = None,
) -> StatusTable:
    """Return the table of a service: the general statuses, and the service's own by category."""
    meanings: dict[int | range, Meaning] = dict(_GENERAL.items())
    for category, descriptions in (
        (STATUS_FAILURE, failure),
        (STATUS_WARNING, warning),
        (STATUS_PENDING, pending),
    ):
        for key, description in (descriptions or {}).items():
            meanings[key] = (category, description)
    return StatusTable(meanings)


_A7XX = range(0xA700, 0xA800)
_A9XX = range(0xA900, 0xAA00)
_CXXX = range(0xC000, 0xD000)

# The answers of our servers for a handler that failed: Cxxx codes, which PS3.4 leaves open.
_HANDLER: dict[int | range, str] = {
    0xC001: "The handler gave a data set without Status",
    0xC002: "The handler gave a status that is neither int nor Dataset",
}

_QUERY_FAILURE: dict[int | range, str] = {
    0xA700: "Out of resources",
    0xA900: "Identifier does not match the SOP class",
    _CXXX: "Unable to process",
    **_HANDLER,
    0xC311: "The C-FIND handler failed",
    0xC312: "The handler's identifier could not be encoded",
}
_QUERY_PENDING: dict[int | range, str] = {
    0xFF00: "A match, more may follow",
    0xFF01: "A match, more may follow; some optional keys are not supported",
}
_RETRIEVE_FAILURE: dict[int | range, str] = {
    0xA701: "Out of resources: number of matches unknown",
    0xA702: "Out of resources: sub-operations not possible",
    0xA900: "Identifier does not match the SOP class",
    0xAA00: "None of the frames was found",
    0xAA01: "No new object can be made for the SOP class",
    0xAA02: "Frames could not be extracted",
    0xAA03: "Request by time, but the object is not time-based",
    0xAA04: "Invalid request",
    _CXXX: "Unable to process",
    **_HANDLER,
}
_RETRIEVE_WARNING: dict[int | range, str] = {
    0xB000: "Complete, with failures or warnings in sub-operations",
}
_RETRIEVE_PENDING: dict[int | range, str] = {0xFF00: "Sub-operations continue"}
_OPTIONAL_ATTRIBUTES: dict[int | range, str] = {
    0x0001: "Requested optional attributes are not supported"
}

GENERAL_STATUS = _table()

# PS3.4 Annex A
VERIFICATION_SERVICE_CLASS_STATUS = GENERAL_STATUS

# PS3.4 Table B.2-1
STORAGE_SERVICE_CLASS_STATUS = _table(
    failure={
        _A7XX: "Out of resources",
        _A9XX: "Data set does not match the SOP class",
        _CXXX: "Cannot understand the data set",
        **_HANDLER,
        0xC211: "The C-STORE handler failed",
    },
    warning={
        0xB000: "Data elements were coerced",
        0xB006: "Data elements were discarded",
        0xB007: "Data set does not match the SOP class",
    },
)

# PS3.4 Table C.4-1; A710 and B001 are of the Repository Query
QR_FIND_SERVICE_CLASS_STATUS = _table(
    failure={**_QUERY_FAILURE, 0xA710: "Invalid prior record key"},
    warning={0xB001: "Limit of responses reached; another request may give more"},
    pending=_QUERY_PENDING,
)

# PS3.4 Table C.4-2; AAxx is of Annex Y
QR_MOVE_SERVICE_CLASS_STATUS = _table(
    failure={
        **_RETRIEVE_FAILURE,
        0xA801: "Move destination unknown",
        0xC511: "The C-MOVE handler failed",
        0xC513: "The handler gave no valid number of sub-operations",
        0xC514: "The handler gave no destination",
        0xC515: "The handler gave no valid destination",
        0xC516: "More than 65,535 sub-operations",
    },
    warning=_RETRIEVE_WARNING,
    pending=_RETRIEVE_PENDING,
)

# PS3.4 Table C.4-3; AAxx is of Annex Y
QR_GET_SERVICE_CLASS_STATUS = _table(
    failure={
        **_RETRIEVE_FAILURE,
        0xC411: "The C-GET handler failed",
        0xC413: "The handler gave no valid number of sub-operations",
        0xC416: "More than 65,535 sub-operations",
    },
    warning=_RETRIEVE_WARNING,
    pending=_RETRIEVE_PENDING,
)

# PS3.4 Section F.8.2: N-GET of a performed procedure step
PROCEDURE_STEP_STATUS = _table(warning=_OPTIONAL_ATTRIBUTES)

# PS3.4 Annex H
PRINT_JOB_MANAGEMENT_SERVICE_CLASS_STATUS = _table(
    failure={
        0xC600: "Film session without film boxes",
        0xC601: "Print queue is full (film session)",
        0xC602: "Print queue is full (film box)",
        0xC603: "Image larger than its image box",
        0xC605: "Not enough printer memory for the image",
        0xC613: "Combined print image larger than its image box",
        0xC616: "The last film box has not been printed yet",
    },
    warning={
        0xB600: "Memory allocation not supported",
        0xB601: "Printing by film session (collation) not supported",
        0xB602: "Film session without images: empty page",
        0xB603: "Film box without images: empty page",
        0xB604: "Image was demagnified to fit its image box",
        0xB605: "Density out of the printer's range; its limit is used",
        0xB609: "Image was cropped to fit its image box",
        0xB60A: "Image was decimated to fit its image box",
    },
)

# PS3.4 Annex J
STORAGE_COMMITMENT_SERVICE_CLASS_STATUS = GENERAL_STATUS

# PS3.4 Annex K
MODALITY_WORKLIST_SERVICE_CLASS_STATUS = _table(failure=_QUERY_FAILURE, pending=_QUERY_PENDING)

# PS3.4 Annex P
APPLICATION_EVENT_LOGGING_SERVICE_CLASS_STATUS = _table(
    failure={
        0xC101: "Procedural logging is not available for the study",
        0xC102: "Event information does not match its template",
        0xC103: "Event matches no current study",
        0xC104: "Inconsistent identifiers; event not logged",
        0xC10E: "Operator may not add to the administration record",
        0xC110: "Patient cannot be identified",
        0xC111: "Administration record could not be updated",
    },
    warning={
        0xB101: "Synchronization frame of reference differs",
        0xB102: "Event logged under another Study Instance UID",
        0xB104: "Inconsistent identifiers; event logged",
    },
)

# PS3.4 Annex Q
RELEVANT_PATIENT_SERVICE_CLASS_STATUS = _table(
    failure={
        0xA700: "Out of resources",
        0xA900: "Identifier does not match the SOP class",
        0xC000: "Unable to process",
        0xC100: "More than one match",
        0xC200: "Requested template is not supported",
    },
    pending={0xFF00: "The match follows"},
)

# PS3.4 Annex S
MEDIA_CREATION_MANAGEMENT_SERVICE_CLASS_STATUS = _table(
    failure={
        0xA510: "Media creation was initiated before",
        0xC201: "Media creation is complete",
        0xC202: "Media creation is under way and cannot be stopped",
        0xC203: "Cancellation denied",
    },
    warning=_OPTIONAL_ATTRIBUTES,
)

# PS3.4 Annex V
SUBSTANCE_ADMINISTRATION_SERVICE_CLASS_STATUS = _table(
    failure=_QUERY_FAILURE, pending=_QUERY_PENDING
)

# PS3.4 Annex CC
UNIFIED_PROCEDURE_STEP_SERVICE_CLASS_STATUS = _table(
    failure={
        0xA700: "Out of resources",
        0xA900: "Identifier does not match the SOP class",
        _CXXX: "Unable to process",
        0xC300: "The UPS may no longer be updated",
        0xC301: "Transaction UID missing or wrong",
        0xC302: "The UPS is IN PROGRESS already",
        0xC303: "Only N-CREATE makes a UPS SCHEDULED",
        0xC304: "Requirements of the final state are not met",
        0xC307: "No such UPS here",
        0xC308: "Receiving AE title is unknown",
        0xC309: "A new UPS must be SCHEDULED",
        0xC310: "The UPS is not IN PROGRESS yet",
        0xC311: "The UPS is COMPLETED already",
        0xC312: "Performer cannot be reached",
        0xC313: "Performer declines to cancel",
        0xC314: "Action not fit for the instance",
        0xC315: "Event reports are not supported",
    },
    warning={
        **_OPTIONAL_ATTRIBUTES,
        0xB300: "UPS created with modifications",
        0xB301: "Deletion lock not granted",
        0xB304: "The UPS is CANCELED already",
        0xB305: "Invalid values were coerced",
        0xB306: "The UPS is COMPLETED already",
    },
    pending=_QUERY_PENDING,
)

# PS3.4 Annex DD
RT_MACHINE_VERIFICATION_SERVICE_CLASS_STATUS = _table(
    failure={
        0xC112: "No machine verification instance that applies",
        0xC221: "No such fraction group in the plan",
        0xC222: "No beams in the fraction group",
        0xC223: "A verification is under way already",
        0xC224: "No such beam in the fraction group",
        0xC225: "Device or accessory not supported",
        0xC226: "No such device or accessory in the beam",
        0xC227: "No such RT plan",
    },
)

# PS3.4 Annex GG
NON_PATIENT_SERVICE_CLASS_STATUS = _table(
    failure={
        0xA700: "Out of resources",
        0xA900: "Data set does not match the SOP class",
        0xC000: "Cannot understand the data set",
    },
)

# PS3.4 Annex KK
STORAGE_MANAGEMENT_SERVICE_CLASS_STATUS = _table(
    warning={0xB010: "Key attributes are not supported for matching"},
)


def code_to_category(code: int) -> str:
    """Return the category of a status code: one of the STATUS_* strings (PS3.7 Annex C)."""
    if not isinstance(code, int) or code < 0:
        raise ValueError(f"A status code is a non-negative integer, not {code!r}")
    if code in _GENERAL:
        return _GENERAL[code][0]
    if code in (0xFF00, 0xFF01):
        return STATUS_PENDING
    if 0xA000 <= code <= 0xAFFF or 0xC000 <= code <= 0xCFFF:
        return STATUS_FAILURE
    if code == 0x0001 or 0xB000 <= code <= 0xBFFF:
        return STATUS_WARNING
    return STATUS_UNKNOWN


def code_to_status(code: int) -> Dataset:
    """Return a Dataset with `code` as its (0000,0900) Status."""
    if not isinstance(code, int) or not 0 <= code <= 0xFFFF:
        raise ValueError(f"A status code is an integer from 0 to 65535, not {code!r}")
    from pydicom.dataset import Dataset

    status = Dataset()
    status.Status = int(code)
    return status
