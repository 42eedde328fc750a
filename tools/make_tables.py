"""Write src/dicomwire/registry/tables.py, from pydicom's UID dictionary and the short lists below.

    python tools/make_tables.py          writes the file
    python tools/make_tables.py --check  exits 1 if the file is not what would be written

The UIDs below leave out the root 1.2.840.10008, or the longer one that is named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
from pydicom._uid_dict import UID_dictionary

TABLES = Path(__file__).parent.parent / "src" / "dicomwire" / "registry" / "tables.py"
ROOT = "1.2.840.10008"
STORAGE_ROOT = f"{ROOT}.5.1.4.1.1"

# In the standard, but not in the dictionary of pydicom: UID -> (keyword, name).
ADDITIONS = {
    f"{STORAGE_ROOT}.9.100.1": (
        "WaveformPresentationStateStorage",
        "Waveform Presentation State Storage",
    ),
    f"{STORAGE_ROOT}.9.100.2": (
        "WaveformAcquisitionPresentationStateStorage",
        "Waveform Acquisition Presentation State Storage",
    ),
    f"{STORAGE_ROOT}.66.7": ("LabelMapSegmentationStorage", "Label Map Segmentation Storage"),
    f"{STORAGE_ROOT}.66.8": ("HeightMapSegmentationStorage", "Height Map Segmentation Storage"),
}

# Keywords that users of pynetdicom know, where the dictionary of pydicom has another one.
ALIASES = {
    "ColorPaletteInformationModelFind": "ColorPaletteQueryRetrieveInformationModelFind",
    "ColorPaletteInformationModelGet": "ColorPaletteQueryRetrieveInformationModelGet",
    "ColorPaletteInformationModelMove": "ColorPaletteQueryRetrieveInformationModelMove",
    "ModalityWorklistInformationFind": "ModalityWorklistInformationModelFind",
    "OphthlamicOpticalCoherenceTomographyBscanVolumeAnalysisStorage": (
        "OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage"
    ),
    "PseudoColorSoftcopyPresentationStageStorage": "PseudoColorSoftcopyPresentationStateStorage",
    "RoboticArmRadiationRecordStorage": "RoboticRadiationRecordStorage",
    "RTBrachyApplicationSetupDeliveryInstructionsStorage": (
        "RTBrachyApplicationSetupDeliveryInstructionStorage"
    ),
    "VariableModalityLUTSoftcopyPresentationStageStorage": (
        "VariableModalityLUTSoftcopyPresentationStateStorage"
    ),
}

# Member of `Service` -> its SOP classes. STORAGE is the rule of `storage_classes` below.
SERVICES = {
    "VERIFICATION": "1.1",
    "STORAGE": "",
    "QUERY_RETRIEVE": """
        5.1.4.1.2.1.1 5.1.4.1.2.1.2 5.1.4.1.2.1.3
        5.1.4.1.2.2.1 5.1.4.1.2.2.2 5.1.4.1.2.2.3
        5.1.4.1.2.3.1 5.1.4.1.2.3.2 5.1.4.1.2.3.3
        5.1.4.1.2.4.2 5.1.4.1.2.4.3 5.1.4.1.2.5.3 5.1.4.1.1.201.6""",
    "PROCEDURE_STEP": "3.1.2.3.3 3.1.2.3.4 3.1.2.3.5",
    "PRINT_MANAGEMENT": """
        5.1.1.1 5.1.1.2 5.1.1.4 5.1.1.4.1 5.1.1.9 5.1.1.14 5.1.1.15 5.1.1.16 5.1.1.16.376
        5.1.1.18 5.1.1.23""",
    "MEDIA_STORAGE": "1.3.10",
    "STORAGE_COMMITMENT": "1.20.1",
    "BASIC_WORKLIST": "5.1.4.31",
    "APPLICATION_EVENT_LOGGING": "1.40 1.42",
    "RELEVANT_PATIENT": "5.1.4.37.1 5.1.4.37.2 5.1.4.37.3",
    "INSTANCE_AVAILABILITY": "5.1.4.33",
    "MEDIA_CREATION": "5.1.1.33",
    "HANGING_PROTOCOL": "5.1.4.38.2 5.1.4.38.3 5.1.4.38.4",
    "SUBSTANCE_ADMINISTRATION": "5.1.4.41 5.1.4.42",
    "COLOR_PALETTE": "5.1.4.39.2 5.1.4.39.3 5.1.4.39.4",
    "IMPLANT_TEMPLATE": """
        5.1.4.43.2 5.1.4.43.3 5.1.4.43.4
        5.1.4.44.2 5.1.4.44.3 5.1.4.44.4
        5.1.4.45.2 5.1.4.45.3 5.1.4.45.4""",
    "UNIFIED_PROCEDURE_STEP": """
        5.1.4.34.6.1 5.1.4.34.6.2 5.1.4.34.6.3 5.1.4.34.6.4 5.1.4.34.6.5""",
    "RT_MACHINE_VERIFICATION": "5.1.4.34.8 5.1.4.34.9",
    "DISPLAY_SYSTEM": "5.1.1.40",
    "NON_PATIENT_OBJECT_STORAGE": """
        5.1.4.1.1.200.1 5.1.4.1.1.200.3 5.1.4.1.1.200.7 5.1.4.1.1.201.1
        5.1.4.38.1 5.1.4.39.1 5.1.4.43.1 5.1.4.44.1 5.1.4.45.1""",
    "DEFINED_PROCEDURE_PROTOCOL": "5.1.4.20.1 5.1.4.20.2 5.1.4.20.3",
    "PROTOCOL_APPROVAL": "5.1.4.1.1.200.4 5.1.4.1.1.200.5 5.1.4.1.1.200.6",
    "INVENTORY": "5.1.4.1.1.201.2 5.1.4.1.1.201.3 5.1.4.1.1.201.4",
    "STORAGE_MANAGEMENT": "5.1.4.1.1.201.5",
}

# Prefixes of storage SOP classes that are not medical: DICOS (security) and DICONDE (testing).
NOT_MEDICAL = (f"{STORAGE_ROOT}.501.", f"{STORAGE_ROOT}.601.")

# What StoragePresentationContexts has proposed since long: a set that leaves room for eight more
# contexts. It is closed; storage SOP classes that are added to DICOM do not join it.
COMMON_STORAGE = """
    1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 2 2.1 2.2 3 3.1 4 4.1 4.2 4.3 4.4 5 6 6.1 6.2 7 7.1 7.2 7.3 7.4
    8 9 9.1.1 9.1.2 9.1.3 9.2.1 9.3.1 9.4.1 9.4.2 9.5.1 9.6.1 10 11 11.1 11.2 11.3 11.4 11.5
    12.1 12.1.1 12.2 12.2.1 12.3 13.1.1 13.1.2 13.1.3 14.1 14.2 20 66 66.1 66.2 66.3 66.4 66.5 67
    68.1 68.2 77.1 77.1.1 77.1.1.1 77.1.2 77.1.2.1 77.1.3 77.1.4 77.1.4.1 77.1.5.1 77.1.5.2
    77.1.5.3 77.1.5.4 77.1.6 77.2 78.1 78.2 78.3 78.4 78.5 78.6 78.7 78.8 79.1 80.1 81.1
    88.11 88.22 88.33 88.34 88.40 88.50 88.59 88.65 88.67 88.69 88.70 104.1 104.2
    128 128.1 129 130 131 481.1 481.2 481.3 481.4 481.5 481.6 481.7 481.8 481.9
"""
COMMON_STORAGE_ELSEWHERE = "5.1.1.27 5.1.1.29 5.1.1.30 5.1.4.34.7"

# List of presentation contexts -> the service whose SOP classes it has.
CONTEXT_LISTS = {
    "AllStoragePresentationContexts": "STORAGE",
    "ApplicationEventLoggingPresentationContexts": "APPLICATION_EVENT_LOGGING",
    "BasicWorklistManagementPresentationContexts": "BASIC_WORKLIST",
    "ColorPalettePresentationContexts": "COLOR_PALETTE",
    "DefinedProcedureProtocolPresentationContexts": "DEFINED_PROCEDURE_PROTOCOL",
    "DisplaySystemPresentationContexts": "DISPLAY_SYSTEM",
    "HangingProtocolPresentationContexts": "HANGING_PROTOCOL",
    "ImplantTemplatePresentationContexts": "IMPLANT_TEMPLATE",
    "InstanceAvailabilityPresentationContexts": "INSTANCE_AVAILABILITY",
    "MediaCreationManagementPresentationContexts": "MEDIA_CREATION",
    "MediaStoragePresentationContexts": "MEDIA_STORAGE",
    "ModalityPerformedPresentationContexts": "PROCEDURE_STEP",
    "NonPatientObjectPresentationContexts": "NON_PATIENT_OBJECT_STORAGE",
    "PrintManagementPresentationContexts": "PRINT_MANAGEMENT",
    "ProcedureStepPresentationContexts": "PROCEDURE_STEP",
    "ProtocolApprovalPresentationContexts": "PROTOCOL_APPROVAL",
    "QueryRetrievePresentationContexts": "QUERY_RETRIEVE",
    "RTMachineVerificationPresentationContexts": "RT_MACHINE_VERIFICATION",
    "RelevantPatientInformationPresentationContexts": "RELEVANT_PATIENT",
    "StorageCommitmentPresentationContexts": "STORAGE_COMMITMENT",
    "SubstanceAdministrationPresentationContexts": "SUBSTANCE_ADMINISTRATION",
    "UnifiedProcedurePresentationContexts": "UNIFIED_PROCEDURE_STEP",
    "VerificationPresentationContexts": "VERIFICATION",
}

# Well-known SOP instances of the services above (those of color palettes are no business of ours).
INSTANCES = """
    1.20.1.1 1.40.1 1.42.1 5.1.1.17 5.1.1.17.376 5.1.1.40.1 5.1.4.1.1.201.1.1 5.1.4.34.5
    5.1.4.34.5.1
"""

DEFAULT_TRANSFER_SYNTAXES = "1.2 1.2.1 1.2.1.99 1.2.2"
# Retired, but every implementation has it: Explicit VR Big Endian.
RETIRED_TRANSFER_SYNTAXES = "1.2.2"
# Current, but not in the list that users know: Encapsulated Uncompressed Explicit VR Little Endian.
OMITTED_TRANSFER_SYNTAXES = "1.2.1.98"
# Not in the dictionary of pydicom: JPEG XL lossless, JPEG XL JPEG recompression, JPEG XL, and
# Deflated Image Frame Compression.
NEW_TRANSFER_SYNTAXES = "1.2.4.110 1.2.4.111 1.2.4.112 1.2.8.1"


def under(root: str, suffixes: str) -> list[str]:
    """The UIDs of a list above."""
    return [f"{root}.{suffix}" for suffix in suffixes.split()]


def numerically(uid: str) -> list[int]:
    """Sort key: UIDs as numbers, .2 before .10."""
    return [int(component) for component in uid.split(".")]


def keyword_of(uid: str) -> str:
    """The name that the UID has in our module."""
    return ADDITIONS[uid][0] if uid in ADDITIONS else UID_dictionary[uid][4]


def storage_classes(others: set[str]) -> Iterator[str]:
    """Every SOP class for storage that is not retired and is not of another service."""
    for uid, (_, kind, _, retired, keyword) in UID_dictionary.items():
        if (
            kind == "SOP Class"
            and not retired
            and uid not in others
            and not uid.startswith(NOT_MEDICAL)
            and keyword.endswith(("Storage", "StorageForPresentation", "StorageForProcessing"))
        ):
            yield uid
    yield from ADDITIONS.keys() - others


def services() -> dict[str, list[str]]:
    """Every service and its SOP classes, in the order of their UIDs as text."""
    classes = {service: under(ROOT, suffixes) for service, suffixes in SERVICES.items()}
    others = {uid for uids in classes.values() for uid in uids}
    classes["STORAGE"] = list(storage_classes(others))
    return {service: sorted(set(uids)) for service, uids in classes.items()}


def transfer_syntaxes() -> list[str]:
    """What ALL_TRANSFER_SYNTAXES has: all that are not retired, with the exceptions above."""
    uids = {
        uid
        for uid, (_, kind, _, retired, _) in UID_dictionary.items()
        if kind == "Transfer Syntax" and not retired
    }
    uids |= {*under(ROOT, RETIRED_TRANSFER_SYNTAXES), *under(ROOT, NEW_TRANSFER_SYNTAXES)}
    return sorted(uids - set(under(ROOT, OMITTED_TRANSFER_SYNTAXES)), key=numerically)


def dimse_msg_type(service: str, keyword: str) -> str:
    """The one operation of a SOP class for queries or retrieval, otherwise an empty string."""
    if service == "UNIFIED_PROCEDURE_STEP":
        return ""
    operations = {"Find": "C-FIND", "Query": "C-FIND", "Move": "C-MOVE", "Get": "C-GET"}
    return next((operations[end] for end in operations if keyword.endswith(end)), "")


def assignment(target: str, expression: str) -> Iterator[str]:
    """An assignment of a name or a call, broken over lines as the formatter breaks it."""
    function, _, arguments = expression.removesuffix(")").rpartition("(")
    if len(f"{target} = {expression}") <= 100:
        yield f"{target} = {expression}"
        return
    yield f"{target} = {function}("
    if len(arguments) <= 96:
        yield f"    {arguments}"
    else:
        yield from (f"    {argument}," for argument in arguments.split(", "))
    yield ")"


def definition(uid: str, service: str, flags: str = "") -> Iterator[str]:
    """The lines that define one SOP class."""
    keyword = keyword_of(uid)
    arguments = f'"{uid}", Service.{service}'
    if operation := dimse_msg_type(service, keyword):
        arguments += f', "{operation}"'
    if uid in ADDITIONS:
        arguments += f', keyword="{keyword}", name="{ADDITIONS[uid][1]}"'
    yield from assignment(keyword, f"define({arguments}{flags})")


def context_lists(common_storage: list[str]) -> Iterator[str]:
    """The lines of CONTEXT_LISTS."""
    yield "CONTEXT_LISTS: dict[str, tuple[SOPClass, ...]] = {"
    for name, service in CONTEXT_LISTS.items():
        yield f'    "{name}": Service.{service}.sop_classes,'
    yield '    "StoragePresentationContexts": ('
    yield from (f"        {keyword_of(uid)}," for uid in common_storage)
    yield "    ),"
    yield "}"
    yield '"""The SOP classes of each list of presentation contexts, in the order of their UIDs."""'


def uid_list(name: str, uids: Iterable[str]) -> Iterator[str]:
    """The lines of a list of transfer syntaxes."""
    yield f"{name} = ["
    yield from (f'    "{uid}",' for uid in uids)
    yield "]"


def lines() -> Iterator[str]:
    """The generated module."""
    by_service = services()
    common_storage = sorted(
        under(STORAGE_ROOT, COMMON_STORAGE) + under(ROOT, COMMON_STORAGE_ELSEWHERE)
    )
    yield '"""The UIDs of SOP classes, of their well-known instances and of transfer syntaxes.'
    yield ""
    yield "Written by tools/make_tables.py, never by hand."
    yield '"""'
    yield ""
    yield f"# From the UID dictionary of pydicom {pydicom.__version__}."
    yield ""
    yield "from __future__ import annotations"
    yield ""
    yield "from dicomwire.registry.services import Service, SOPClass, define"
    for service, uids in by_service.items():
        yield ""
        for uid in uids:
            yield from definition(uid, service)
    yield ""
    yield "# Retired; older devices still send them."
    for uid in common_storage:
        if uid not in by_service["STORAGE"]:
            yield from definition(uid, "STORAGE", ", is_legacy=True")
    yield ""
    yield "# The keywords that users of pynetdicom know."
    for alias, keyword in ALIASES.items():
        yield from assignment(alias, keyword)
    yield ""
    for uid in under(ROOT, INSTANCES):
        yield f'{keyword_of(uid)} = "{uid}"'
    yield ""
    yield from context_lists(common_storage)
    yield ""
    yield from uid_list("DEFAULT_TRANSFER_SYNTAXES", under(ROOT, DEFAULT_TRANSFER_SYNTAXES))
    yield ""
    yield from uid_list("ALL_TRANSFER_SYNTAXES", transfer_syntaxes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    text = "\n".join(lines()) + "\n"
    if not check:
        TABLES.write_text(text, encoding="utf-8")
        return 0
    if TABLES.exists() and TABLES.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TABLES.name} is stale: run python tools/make_tables.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
