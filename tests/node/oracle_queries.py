"""Queries of every kind of matching, for the archive that `archive_of` generates."""

from __future__ import annotations

from archive_of import MR, NAMES, SR
from asking import Keys

from dicomwire.node.keys import QUERY_KEYS, Level

VR = {key.keyword: key.vr for key in QUERY_KEYS.values()}

P, S, E, I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE  # noqa: E741
KINDS: list[tuple[str, Level, Keys]] = [
    # Single value (C.2.2.2.1)
    ("uid", S, {"StudyInstanceUID": "1.2.3.7"}),
    ("text", S, {"StudyDescription": "CT Abdomen"}),
    ("text, another case", S, {"StudyDescription": "ct abdomen"}),
    ("text that is not ASCII", S, {"StudyDescription": "Café"}),
    ("text with the signs of SQL", S, {"StudyDescription": "Thorax 50%"}),
    ("underscore", E, {"SeriesDescription": "CT_Head"}),
    ("quotes", S, {"AccessionNumber": "' OR '1'='1"}),
    ("number", E, {"SeriesNumber": "01"}),
    ("decimal", S, {"PatientWeight": "70.00"}),
    ("binary number", I, {"Rows": 512}),
    ("date", S, {"StudyDate": "20200101"}),
    ("time", S, {"StudyTime": "1030"}),
    ("time as it is written otherwise", S, {"StudyTime": "103000.0"}),
    ("any of an attribute's values", I, {"ImageType": "PRIMARY"}),
    ("backslash in a text that has one value", S, {"PatientComments": "Back\\slash"}),
    ("code string", P, {"PatientSex": "M"}),
    ("nothing found", S, {"StudyInstanceUID": "9.9"}),
    # List of UIDs (C.2.2.2.2), and of other values
    ("list of UIDs", S, {"StudyInstanceUID": "1.2.3.1\\1.2.3.5\\1.2.3.9\\7.7"}),
    ("list of classes", I, {"SOPClassUID": f"{MR}\\{SR}"}),
    ("two lists", I, {"SOPClassUID": MR, "StudyInstanceUID": "1.2.3.1\\1.2.3.2\\1.2.3.3"}),
    ("list of values", E, {"Modality": "CT\\SR"}),
    ("list of patterns", P, {"PatientName": "Doe*\\*tarou"}),
    # Universal (C.2.2.2.3)
    ("all", S, {}),
    ("all with names", P, {"PatientName": "", "PatientID": ""}),
    ("asterisk alone", S, {"StudyDescription": "*", "PatientName": "*"}),
    ("asterisk for a date and a time", S, {"StudyDate": "*", "StudyTime": "*"}),
    ("asterisk for a moment", I, {"AcquisitionDateTime": "*", "SOPClassUID": "*"}),
    ("asterisk for what is counted", S, {"NumberOfStudyRelatedSeries": "*"}),
    # Wildcards (C.2.2.2.4)
    ("begin", S, {"StudyDescription": "CT*"}),
    ("begin with the sign of LIKE", S, {"StudyDescription": "CT_*"}),
    ("inside", S, {"StudyDescription": "*ho*"}),
    ("end", S, {"StudyDescription": "*%"}),
    ("question marks", S, {"StudyDescription": "C??é"}),
    ("one letter", S, {"StudyDescription": "?T*Abd?men"}),
    ("identifier", P, {"PatientID": "P1*"}),
    ("identifier with a percent sign", P, {"PatientID": "%*"}),
    ("pattern for one of several values", I, {"ImageType": "SECOND*"}),
    ("asterisks in a row", S, {"StudyDescription": "C**T***"}),
    # Dates and times (C.2.2.2.5)
    ("dates", S, {"StudyDate": "20200101-20200301"}),
    ("dates until", S, {"StudyDate": "-20200101"}),
    ("dates since", S, {"StudyDate": "20200229-"}),
    ("dates the wrong way round", S, {"StudyDate": "20210101-20200101"}),
    ("times", S, {"StudyTime": "10-1030"}),
    ("times to the microsecond", S, {"StudyTime": "103000.5-235959.999999"}),
    ("times until", E, {"SeriesTime": "-10"}),
    ("times since", E, {"SeriesTime": "120000-"}),
    ("dates and times apart", S, {"StudyDate": "20191231-20200229", "StudyTime": "10-1030"}),
    ("date-time", I, {"AcquisitionDateTime": "20200101093000"}),
    ("date-time of a zone", I, {"AcquisitionDateTime": "20200101093000+0000"}),
    ("date-times", I, {"AcquisitionDateTime": "20200101-20200102"}),
    ("date-times of zones", I, {"AcquisitionDateTime": "20200101090000+0000-20200101100000-0000"}),
    ("date-times since", I, {"AcquisitionDateTime": "20200101140000-0100-"}),
    ("date-times until", I, {"AcquisitionDateTime": "-2020"}),
    # Sequences (C.2.2.2.6)
    ("code", S, {"ProcedureCodeSequence": {"CodeValue": "P1", "CodingSchemeDesignator": "99L"}}),
    ("code with wildcards", S, {"ProcedureCodeSequence": {"CodeMeaning": "Ü*t"}}),
    (
        "values of two items",
        S,
        {"ProcedureCodeSequence": {"CodeValue": "P2", "CodingSchemeDesignator": "DCM"}},
    ),
    ("sequence that is universal", S, {"ProcedureCodeSequence": {"CodeValue": ""}}),
    ("sequence without items", S, {"ProcedureCodeSequence": b""}),
    (
        "sequence in a sequence",
        E,
        {"RequestAttributesSequence": {"RequestedProcedureCodeSequence": {"CodeValue": "P1"}}},
    ),
    # Empty values (C.2.2.2.7)
    ("no description", S, {"StudyDescription": '""'}),
    ("no items of an attribute", I, {"ImageType": '""'}),
    ("no name", P, {"PatientName": '""'}),
    ("no date", S, {"StudyDate": '""'}),
    ("no weight", S, {"PatientWeight": '""'}),
    # Names
    *((f"name {name}", P, {"PatientName": name}) for name in NAMES if not set(name) & set("*?=")),
    ("name in lower case", P, {"PatientName": "doe^john"}),
    ("name in capitals with an accent", P, {"PatientName": "MÜLLER^JÖRG"}),
    ("name decomposed", P, {"PatientName": "mu\u0308ller^jo\u0308rg"}),
    ("empty components", P, {"PatientName": "Doe^John^^"}),
    ("component to come", P, {"PatientName": "Doe^John^*"}),
    ("family name alone", P, {"PatientName": "doe"}),
    ("family name and all", P, {"PatientName": "doe^*"}),
    ("begin of a name", P, {"PatientName": "doe*"}),
    ("given name", P, {"PatientName": "*^john"}),
    ("letters", P, {"PatientName": "d?e^j*"}),
    ("ideographic group", P, {"PatientName": "山田^太郎"}),
    ("begin of the ideographic group", P, {"PatientName": "山田*"}),
    ("phonetic group", P, {"PatientName": "やまだ*"}),
    ("two groups", P, {"PatientName": "yamada*=山田*"}),
    ("second group", P, {"PatientName": "=山田^*"}),
    ("any and the second group", P, {"PatientName": "*=洪*"}),
    ("three groups", P, {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"}),
    ("groups that do not fit", P, {"PatientName": "Yamada^Tarou=洪^吉洞"}),
    ("Cyrillic", P, {"PatientName": "иванов*"}),
    ("quoted name", P, {"PatientName": "*DROP TABLE*"}),
    ("referring physician", S, {"ReferringPhysicianName": "smith^*"}),
    ("any of several names", P, {"OtherPatientNames": "roe^jane"}),
    ("any of several operators", E, {"OperatorsName": "*^two"}),
    # What is counted and collected
    ("modality of a study", S, {"ModalitiesInStudy": "MR"}),
    ("modalities of a study", S, {"ModalitiesInStudy": "MR\\US"}),
    ("pattern of a modality", S, {"ModalitiesInStudy": "?R"}),
    ("class in a study", S, {"SOPClassesInStudy": SR}),
    ("number of series", S, {"NumberOfStudyRelatedSeries": "2"}),
    (
        "all that is counted",
        S,
        {
            keyword: ""
            for keyword in VR
            if keyword.startswith(("NumberOfP", "NumberOfSt")) or keyword.endswith("InStudy")
        },
    ),
    ("counted of series", E, {"NumberOfSeriesRelatedInstances": ""}),
    ("counted of patients", P, {"NumberOfPatientRelatedInstances": "", "PatientName": ""}),
    # Several levels, and several keys
    ("patient of a study", S, {"PatientName": "doe*", "PatientSex": "M"}),
    ("instances of a patient", I, {"PatientID": "P1*", "Modality": "MR", "InstanceNumber": "1"}),
    ("instances of a date", I, {"StudyDate": "20200101", "ContentDate": "20200101-"}),
    ("instances with a code", I, {"ProcedureCodeSequence": {"CodeValue": "P2"}, "Rows": 256}),
    ("syntax", I, {"AvailableTransferSyntaxUID": "1.2.840.10008.1.2.4.50"}),
]

NOTHING = {
    "quotes",
    "nothing found",
    "dates the wrong way round",
    "values of two items",
    "family name alone",
    "groups that do not fit",
}
"""The kinds that are to find nothing."""

FUZZY = [
    "john doe",
    "DOE JOHN",
    "muller",
    "Jorg Müller",
    "maria",
    "cruz, jose",
    "obrien",
    "brien o",
    "lukasz orsted",
    "山田",
    "太郎 yamada",
    "jo* d?e",
    "Иван",
    "*ll*",
    "nobody",
]

COMBINED: list[tuple[str, Keys]] = [
    ("two days", {"StudyDate": "20191231-20200101", "StudyTime": "2359-1029"}),
    ("open begin", {"StudyDate": "-20200101", "StudyTime": "-1030"}),
    ("open end", {"StudyDate": "20200101-", "StudyTime": "103000.1-"}),
    ("open time", {"StudyDate": "20200101-20200229", "StudyTime": "11-"}),
    ("one day", {"StudyDate": "20200101", "StudyTime": "10-12"}),
    ("one moment", {"StudyDate": "20200101", "StudyTime": "1030"}),
    ("one time", {"StudyDate": "20191231-20200229", "StudyTime": "1030"}),
    ("times the wrong way round", {"StudyDate": "20191231-20200229", "StudyTime": "11-09"}),
    ("birth", {"PatientBirthDate": "20191231-20200101", "PatientBirthTime": "12-11"}),
    ("date alone", {"StudyDate": "20191231-20200101", "StudyTime": ""}),
]
