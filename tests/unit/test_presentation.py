"""`build_context`, `build_role` and the lists of presentation contexts."""

from __future__ import annotations

import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomwire import presentation
from dicomwire.presentation import (
    DEFAULT_TRANSFER_SYNTAXES,
    PresentationContext,
    build_context,
    build_role,
)

CT = "1.2.840.10008.5.1.4.1.1.2"

LENGTHS = {
    "AllStoragePresentationContexts": 170,
    "ApplicationEventLoggingPresentationContexts": 2,
    "BasicWorklistManagementPresentationContexts": 1,
    "ColorPalettePresentationContexts": 3,
    "DefinedProcedureProtocolPresentationContexts": 3,
    "DisplaySystemPresentationContexts": 1,
    "HangingProtocolPresentationContexts": 3,
    "ImplantTemplatePresentationContexts": 9,
    "InstanceAvailabilityPresentationContexts": 1,
    "MediaCreationManagementPresentationContexts": 1,
    "MediaStoragePresentationContexts": 1,
    "ModalityPerformedPresentationContexts": 3,
    "NonPatientObjectPresentationContexts": 9,
    "PrintManagementPresentationContexts": 11,
    "ProcedureStepPresentationContexts": 3,
    "ProtocolApprovalPresentationContexts": 3,
    "QueryRetrievePresentationContexts": 13,
    "RTMachineVerificationPresentationContexts": 2,
    "RelevantPatientInformationPresentationContexts": 3,
    "StorageCommitmentPresentationContexts": 1,
    "StoragePresentationContexts": 120,
    "SubstanceAdministrationPresentationContexts": 2,
    "UnifiedProcedurePresentationContexts": 5,
    "VerificationPresentationContexts": 1,
}


def test_context_with_the_default_transfer_syntaxes() -> None:
    context = build_context(CT)
    assert type(context) is PresentationContext
    assert context.abstract_syntax == CT
    assert context.transfer_syntax == DEFAULT_TRANSFER_SYNTAXES
    assert context.transfer_syntax is not DEFAULT_TRANSFER_SYNTAXES
    assert context.context_id is context.result is context.as_scu is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (ImplicitVRLittleEndian, [ImplicitVRLittleEndian]),
        ("1.2.840.10008.1.2.1", [ExplicitVRLittleEndian]),
        (
            [ExplicitVRLittleEndian, "1.2.840.10008.1.2"],
            ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"],
        ),
        ([ImplicitVRLittleEndian, ImplicitVRLittleEndian], [ImplicitVRLittleEndian]),
        ([], []),
    ],
)
def test_context_with_transfer_syntaxes(given: list[str], kept: list[str]) -> None:
    transfer_syntaxes = build_context(UID(CT), given).transfer_syntax
    assert transfer_syntaxes == kept
    assert all(isinstance(uid, UID) for uid in transfer_syntaxes)


@pytest.mark.parametrize(
    ("abstract_syntax", "transfer_syntax"), [("", None), ("1" * 65, None), (CT, ""), (CT, "1" * 65)]
)
def test_context_of_a_bad_uid(abstract_syntax: str, transfer_syntax: str | None) -> None:
    with pytest.raises(ValueError, match="UID"):
        build_context(abstract_syntax, transfer_syntax)


@pytest.mark.parametrize("abstract_syntax", [None, 1])
def test_context_of_no_uid(abstract_syntax: object) -> None:
    with pytest.raises(TypeError):
        build_context(abstract_syntax)  # type: ignore[arg-type]


def test_role() -> None:
    role = build_role(CT, scp_role=True)
    assert type(role.sop_class_uid) is UID
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == (CT, False, True)
    assert (build_role(UID(CT)).scu_role, build_role(UID(CT)).scp_role) == (False, False)
    with pytest.raises(ValueError, match="UID"):
        build_role("")


@pytest.mark.parametrize(("name", "length"), LENGTHS.items())
def test_lists(name: str, length: int) -> None:
    contexts = getattr(presentation, name)
    assert type(contexts) is list
    assert len(contexts) == length
    assert contexts == [build_context(context.abstract_syntax) for context in contexts]
    uids = [context.abstract_syntax for context in contexts]
    assert uids == sorted(set(uids))


def test_lists_share_nothing_that_can_change() -> None:
    everything = [context for name in LENGTHS for context in getattr(presentation, name)]
    assert len({id(context) for context in everything}) == len(everything)
    syntax_lists = {id(context.transfer_syntax) for context in everything}
    assert len(syntax_lists) == len(everything)
    assert id(DEFAULT_TRANSFER_SYNTAXES) not in syntax_lists


def test_storage_fits_into_one_association() -> None:
    assert len(presentation.StoragePresentationContexts) <= 128


def test_there_are_no_other_lists() -> None:
    lists = {name for name in dir(presentation) if name.endswith("PresentationContexts")}
    assert lists == LENGTHS.keys()
