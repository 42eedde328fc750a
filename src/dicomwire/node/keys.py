"""The table of the attributes that the index keeps and a query may have as keys, by level.

It names the columns of the database; `matching` has the rules of matching.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import BaseTag

VALUE_LIMIT = 10_240
"""The most characters of a value in the index: the maximum length of an LT (PS3.5 6.2)."""


class Level(Enum):
    """A level of the Query/Retrieve information models, by its QueryRetrieveLevel (PS3.4 C.3)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    def __init__(self, _: str) -> None:
        self.depth = len(type(self).__members__)
        """0 for patients, to 3 for instances."""


class Use(Enum):
    """The type of a key (PS3.4 C.2.2.1)."""

    UNIQUE = "U"
    REQUIRED = "R"
    OPTIONAL = "O"
    COMPUTED = "C"
    """Optional, and counted or collected from the levels below for each query."""


@dataclass(frozen=True, slots=True)
class QueryKey:
    """An attribute that a query may have as a key.

    Attributes
    ----------
    column : str or None
        The column of the level's table that contains its value as text, without leading and
        trailing spaces; None if it is only in the column `attributes`, or computed.
    """

    level: Level
    keyword: str
    tag: BaseTag
    vr: str
    use: Use
    column: str | None

    @property
    def json_tag(self) -> str:
        """The name in the DICOM JSON model (PS3.18 F.2)."""
        return f"{int(self.tag):08X}"


def _keys(level: Level, use: Use, names: str, columns: str = "") -> Iterable[QueryKey]:
    """Yield the keys for keywords; those with a column are in `columns`, as keyword:column."""
    named = dict(pair.split(":") for pair in columns.split())
    for keyword in [*named, *names.split()]:
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        yield QueryKey(level, keyword, BaseTag(tag), dictionary_VR(tag), use, named.get(keyword))


_PATIENT = (
    *_keys(Level.PATIENT, Use.UNIQUE, "", "PatientID:patient_id"),
    *_keys(Level.PATIENT, Use.REQUIRED, "", "PatientName:patient_name"),
    *_keys(
        Level.PATIENT,
        Use.OPTIONAL,
        "PatientBirthTime OtherPatientIDs OtherPatientIDsSequence OtherPatientNames EthnicGroup"
        " PatientComments PatientBirthName PatientMotherBirthName PatientAddress"
        " PatientTelephoneNumbers PatientSpeciesDescription PatientSpeciesCodeSequence"
        " PatientBreedDescription PatientBreedCodeSequence ResponsiblePerson"
        " ResponsiblePersonRole ResponsibleOrganization QualityControlSubject"
        " PatientIdentityRemoved DeidentificationMethod TypeOfPatientID"
        " IssuerOfPatientIDQualifiersSequence ReferencedPatientSequence"
        " ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName"
        " ClinicalTrialSiteID ClinicalTrialSiteName ClinicalTrialSubjectID"
        " ClinicalTrialSubjectReadingID",
        "IssuerOfPatientID:issuer_of_patient_id PatientBirthDate:patient_birth_date"
        " PatientSex:patient_sex",
    ),
    *_keys(
        Level.PATIENT,
        Use.COMPUTED,
        "NumberOfPatientRelatedStudies NumberOfPatientRelatedSeries"
        " NumberOfPatientRelatedInstances",
    ),
)
"""PS3.4 C.6.1.1.2."""

_STUDY = (
    *_keys(Level.STUDY, Use.UNIQUE, "", "StudyInstanceUID:study_instance_uid"),
    *_keys(
        Level.STUDY,
        Use.REQUIRED,
        "",
        "StudyDate:study_date StudyTime:study_time AccessionNumber:accession_number"
        " StudyID:study_id",
    ),
    *_keys(
        Level.STUDY,
        Use.OPTIONAL,
        "ProcedureCodeSequence NameOfPhysiciansReadingStudy PhysiciansOfRecord"
        " ConsultingPhysicianName AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence"
        " PatientAge PatientSize PatientWeight Occupation AdditionalPatientHistory"
        " PregnancyStatus PatientState MedicalAlerts Allergies SmokingStatus"
        " IssuerOfAccessionNumberSequence RequestingService RequestingPhysician"
        " RequestedProcedureDescription RequestedProcedureCodeSequence ReferencedStudySequence"
        " AdmissionID ServiceEpisodeID ServiceEpisodeDescription ReasonForStudy"
        " InstitutionalDepartmentName ClinicalTrialTimePointID"
        " ClinicalTrialTimePointDescription TimezoneOffsetFromUTC",
        "StudyDescription:study_description ReferringPhysicianName:referring_physician_name",
    ),
    *_keys(
        Level.STUDY,
        Use.COMPUTED,
        "NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances ModalitiesInStudy"
        " SOPClassesInStudy",
    ),
)
"""PS3.4 C.6.1.1.3 and C.6.2.1.2."""

_SERIES = (
    *_keys(Level.SERIES, Use.UNIQUE, "", "SeriesInstanceUID:series_instance_uid"),
    *_keys(Level.SERIES, Use.REQUIRED, "", "Modality:modality SeriesNumber:series_number"),
    *_keys(
        Level.SERIES,
        Use.OPTIONAL,
        "SeriesTime Laterality ProtocolName OperatorsName PerformingPhysicianName"
        " InstitutionName InstitutionAddress StationName Manufacturer ManufacturerModelName"
        " DeviceSerialNumber SoftwareVersions PatientPosition FrameOfReferenceUID"
        " PositionReferenceIndicator"
        " PerformedProcedureStepID PerformedProcedureStepStartDate"
        " PerformedProcedureStepStartTime PerformedProcedureStepEndDate"
        " PerformedProcedureStepEndTime PerformedProcedureStepDescription"
        " PerformedProtocolCodeSequence PerformedStationAETitle PerformedStationName"
        " RequestAttributesSequence ReferencedPerformedProcedureStepSequence"
        " SeriesDescriptionCodeSequence TreatmentSessionUID ClinicalTrialSeriesID"
        " ClinicalTrialSeriesDescription",
        "SeriesDescription:series_description BodyPartExamined:body_part_examined"
        " SeriesDate:series_date",
    ),
    *_keys(Level.SERIES, Use.COMPUTED, "NumberOfSeriesRelatedInstances"),
)
"""PS3.4 C.6.1.1.4."""

_IMAGE = (
    *_keys(Level.IMAGE, Use.UNIQUE, "", "SOPInstanceUID:sop_instance_uid"),
    *_keys(Level.IMAGE, Use.REQUIRED, "", "InstanceNumber:instance_number"),
    *_keys(
        Level.IMAGE,
        Use.OPTIONAL,
        "ContentTime AcquisitionNumber AcquisitionDate AcquisitionTime AcquisitionDateTime"
        " InstanceCreationDate InstanceCreationTime ImageType ImageComments Rows Columns"
        " BitsAllocated BitsStored NumberOfFrames SamplesPerPixel PhotometricInterpretation"
        " SliceLocation ImageLaterality ViewPosition LossyImageCompression BurnedInAnnotation"
        " ContentLabel ContentDescription ContentCreatorName"
        " PresentationCreationDate PresentationCreationTime ReferencedSeriesSequence"
        " ConceptNameCodeSequence ContentTemplateSequence VerificationFlag CompletionFlag"
        " VerifyingObserverSequence ReferencedRequestSequence DocumentTitle"
        " MIMETypeOfEncapsulatedDocument ContainerIdentifier SpecimenDescriptionSequence"
        " RelatedGeneralSOPClassUID ReferencedSOPSequence RTPlanLabel RTPlanName RTPlanDate"
        " RTPlanTime RTImageLabel StructureSetLabel StructureSetName StructureSetDate"
        " StructureSetTime",
        "SOPClassUID:sop_class_uid ContentDate:content_date"
        " AvailableTransferSyntaxUID:transfer_syntax_uid",
    ),
)
"""PS3.4 C.6.1.1.5, and further keys that programs commonly use."""

QUERY_KEYS: dict[int, QueryKey] = {
    int(key.tag): key for key in (*_PATIENT, *_STUDY, *_SERIES, *_IMAGE)
}
"""All keys, by tag."""

KEPT: dict[Level, tuple[QueryKey, ...]] = {
    level: tuple(
        key for key in QUERY_KEYS.values() if key.level is level and key.use is not Use.COMPUTED
    )
    for level in Level
}
"""The keys of each level whose values the index keeps."""

UNIQUE: dict[Level, QueryKey] = {
    key.level: key for key in QUERY_KEYS.values() if key.use is Use.UNIQUE
}
"""The unique key of each level."""
