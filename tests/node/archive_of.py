"""Generated archives of any size: their entities, as rows of an index and as DICOM objects.

Rows are inserted directly, so that a hundred thousand instances are there in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from sqlalchemy import Connection, insert

from dicomwire.node.index.database import Database
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.index.writer import Index
from dicomwire.node.keys import KEPT, Level
from dicomwire.node.names import fold_name

LEVELS = tuple(Level)
TABLES = dict(zip(LEVELS, (patient, study, series, instance), strict=True))
CT, MR, SR = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.88.11",
)
EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"

NAMES = [
    "Doe^John",
    "DOE^John^^^",
    "Doe^Jane^Q^Dr",
    "Doering^Johanna",
    "Müller^Jörg",
    "MÜLLER^Jo\u0308rg",
    "Muller^Jorg",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    "=山田^花子",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "O'Brien^Mary Ann",
    "de la Cruz^María José",
    "Łukasz^Ørsted",
    '100%_sure^It\'s "quoted"; DROP TABLE study --',
    "Star*Wars^Who?",
    "Иванов^Иван",
    "Smith^John",
    "",
]
DESCRIPTIONS = ["CT Abdomen", "ct abdomen", "MR Knie links", "Thorax 50%", "CT_Head", "Café", ""]
DATES = ["20191231", "20200101", "20200229", "20200701", "20211115", "2020", ""]
TIMES = ["", "10", "1030", "103000", "103000.5", "235959.999999", "000000", "120000"]
MOMENTS = ["20200101", "20200101103000+0100", "20200101103000-0500", "20200101093000", "2020"]
MODALITIES = ["CT", "MR", "SR", "US"]
CODES = [
    [],
    [{"CodeValue": "P1", "CodingSchemeDesignator": "99L", "CodeMeaning": "Übersicht"}],
    [
        {"CodeValue": "P1", "CodingSchemeDesignator": "DCM", "CodeMeaning": "Plain"},
        {"CodeValue": "P2", "CodingSchemeDesignator": "99L", "CodeMeaning": "Other"},
    ],
]
IMAGE_TYPES = [["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY"], []]

Values = dict[str, Any]


@dataclass
class Entity:
    """A patient, study, series or instance: attributes of its own, by keyword.

    A value is text, a number, a list of them, or a list of items, which are such dicts again.
    """

    level: Level
    own: Values
    above: Entity | None = None
    below: list[Entity] = field(default_factory=list)

    @property
    def values(self) -> Values:
        """What is known of it, with all of the levels above."""
        return {**(self.above.values if self.above else {}), **self.own}

    def descendants(self, level: Level) -> Iterator[Entity]:
        """Iterate over what it has at a level, itself if that is its own."""
        if level is self.level:
            yield self
        else:
            for entity in self.below:
                yield from entity.descendants(level)

    def add(self, level: Level, own: Values) -> Entity:
        """Add something to the level below."""
        entity = Entity(level, own, self)
        self.below.append(entity)
        return entity


class Archive:
    """Patients with studies of a few series, all generated of one seed.

    Parameters
    ----------
    studies, instances : int
        How many there are in all.
    """

    def __init__(self, studies: int, instances: int, seed: int = 5) -> None:
        self._random = random.Random(seed)
        self.patients: list[Entity] = []
        for number in range(studies):
            if number % 4 != 3:
                self.patients.append(Entity(Level.PATIENT, self._patient(number)))
            last = self.patients[-1].add(Level.STUDY, self._study(number))
            share = instances // studies + (number < instances % studies)
            self._fill(last, number, share)

    def entities(self, level: Level) -> Iterator[Entity]:
        """Iterate over all of a level."""
        for each in self.patients:
            yield from each.descendants(level)

    def _one_of(self, values: list[Any]) -> Any:
        return self._random.choice(values)

    def _patient(self, number: int) -> Values:
        return {
            "PatientID": "" if number == 8 else f"{self._one_of(['P', 'p', 'X_', '%'])}{number}",
            "IssuerOfPatientID": self._one_of(["", "HOSPITAL A", "HOSPITAL B"]),
            "PatientName": self._one_of(NAMES),
            "PatientBirthDate": self._one_of(DATES),
            "PatientBirthTime": self._one_of(TIMES),
            "PatientSex": self._one_of(["F", "M", "O", ""]),
            "PatientComments": self._one_of(["Back\\slash", "allergic", ""]),
            "OtherPatientNames": self._one_of([[], ["Doe^John", "Roe^Jane"], ["Müller^X"]]),
        }

    def _study(self, number: int) -> Values:
        return {
            "StudyInstanceUID": f"1.2.3.{number}",
            "StudyDate": self._one_of(DATES),
            "StudyTime": self._one_of(TIMES),
            "AccessionNumber": self._one_of(["", f"A{number}", f"a{number}", f"A%{number}"]),
            "StudyID": self._one_of(["1", "01", "S1"]),
            "StudyDescription": self._one_of(DESCRIPTIONS),
            "ReferringPhysicianName": self._one_of(NAMES),
            "ProcedureCodeSequence": self._one_of(CODES),
            "PatientWeight": self._one_of([[], ["70"], ["70.0"], ["71.5"]]),
        }

    def _fill(self, owner: Entity, number: int, instances: int) -> None:
        many = min(self._random.randint(1, 4), instances)
        for place in range(many):
            uid = f"1.2.3.{number}.{place}"
            modality = self._one_of(MODALITIES)
            own = owner.add(Level.SERIES, self._series(uid, modality, place))
            for count in range(instances // many + (place < instances % many)):
                own.add(Level.IMAGE, self._instance(f"{uid}.{count}", modality, count))

    def _series(self, uid: str, modality: str, number: int) -> Values:
        return {
            "SeriesInstanceUID": uid,
            "Modality": modality,
            "SeriesNumber": self._one_of([number, number, None]),
            "SeriesDescription": self._one_of(DESCRIPTIONS),
            "SeriesDate": self._one_of(DATES),
            "SeriesTime": self._one_of(TIMES),
            "BodyPartExamined": self._one_of(["KNEE", "HEAD", ""]),
            "OperatorsName": self._one_of([[], ["Op^One", "Op^Two"]]),
            "RequestAttributesSequence": self._one_of(
                [
                    [],
                    [
                        {
                            "ScheduledProcedureStepID": "S1",
                            "RequestedProcedureCodeSequence": CODES[1],
                        }
                    ],
                ]
            ),
        }

    def _instance(self, uid: str, modality: str, number: int) -> Values:
        return {
            "SOPInstanceUID": uid,
            "SOPClassUID": {"MR": MR, "SR": SR}.get(modality, CT),
            "InstanceNumber": number,
            "ContentDate": self._one_of(DATES),
            "ContentTime": self._one_of(TIMES),
            "AcquisitionDateTime": self._one_of(MOMENTS),
            "Rows": self._one_of([256, 512]),
            "ImageType": self._one_of(IMAGE_TYPES),
            "AvailableTransferSyntaxUID": self._one_of([EXPLICIT, JPEG]),
        }

    def insert(self, database: Database) -> Index:
        """Put everything into a new index and return it."""
        index = Index(database)
        with index.writing() as writer:
            above: dict[int, int] = {}
            for level in LEVELS:
                above = _insert(writer.connection, level, list(self.entities(level)), above)
        return index


def _insert(
    connection: Connection, level: Level, entities: list[Entity], above: dict[int, int]
) -> dict[int, int]:
    """Insert the entities of a level; return their ids."""
    ids = {}
    for start in range(0, len(entities), 10_000):
        rows = []
        for number, entity in enumerate(entities[start : start + 10_000], start + 1):
            ids[id(entity)] = number
            row = row_of(level, entity.own) | {"id": number}
            if entity.above is not None:
                row[LEVELS[level.depth - 1].name.lower()] = above[id(entity.above)]
            if level is Level.IMAGE:
                row |= {"file": f"objects/{number}.dcm", "size": 1000, "digest": f"{number:064x}"}
            rows.append(row)
        connection.execute(insert(TABLES[level]), rows)
    return ids


def row_of(level: Level, values: Values) -> dict[str, Any]:
    """Return what an index has of an entity."""
    row: dict[str, Any] = {"attributes": json_of(values)}
    row["attributes"].pop("00083002", None)
    for key in KEPT[level]:
        if key.column is not None:
            value = values.get(key.keyword)
            row[key.column] = "" if value is None else str(value)
    if level is Level.PATIENT:
        row["patient_name_key"] = fold_name(values["PatientName"])
    return row


def json_of(values: Values) -> dict[str, Any]:
    """Return values in the DICOM JSON model."""
    elements: dict[str, Any] = {}
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        vr = dictionary_VR(tag)
        found = value if isinstance(value, list) else [] if value in ("", None) else [value]
        element = elements[f"{tag:08X}"] = {"vr": vr}
        if found:
            element["Value"] = [_json_value(vr, each) for each in found]
    return elements


def _json_value(vr: str, value: Any) -> Any:
    if vr == "SQ":
        return json_of(value)
    if vr == "PN":
        groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.split("="), strict=False)
        return {name: group for name, group in groups if group}
    return value


def dataset_of(values: Values) -> Dataset:
    """Return values as a dataset, in UTF-8; what is wrong with them stays."""
    ds = _item_of(values)
    ds.SpecificCharacterSet = "ISO_IR 192"
    return ds


def _item_of(values: Values) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        vr = dictionary_VR(tag)
        if keyword == "AvailableTransferSyntaxUID":
            continue
        if vr == "SQ":
            value = Sequence(map(_item_of, value))
        elif isinstance(value, list):
            value = "\\".join(value)
        elif vr == "IS" and value is not None:
            value = str(value)
        ds.add(DataElement(tag, vr, value, already_converted=True))
    return ds
