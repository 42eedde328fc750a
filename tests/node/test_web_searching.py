"""QIDO-RS (PS3.18 Section 10.6): which queries find what, and what is said of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from archive_of import Archive
from asking import Keys
from backends import Backend, of_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Oracle, texts_of
from oracle_queries import FUZZY, KINDS, VR, E, I, P, S
from sqlalchemy import insert
from web_application import JSON_TYPE, XML_TYPE, Client, parameters, searching, values

from dicomwire.node.index.schema import study
from dicomwire.node.index.writer import Index
from dicomwire.node.keys import QUERY_KEYS, UNIQUE, Level
from dicomwire.node.web.parameters import Parameters
from dicomwire.node.web.searching import Results

PATHS = {S: "/studies", E: "/series", I: "/instances"}
TAGS = {key.keyword: key.json_tag for key in QUERY_KEYS.values()}
COUNTED = "NumberOfStudyRelatedSeries"
NATIVE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


@pytest.fixture(scope="module")
def archive() -> Archive:
    return Archive(30, 300)


@pytest.fixture(scope="module")
def client(
    archive: Archive, module_backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Searches the archive, in each kind of index."""
    database = module_backend.database(tmp_path_factory.mktemp("node"))
    with archive.insert(database) as index, searching(index) as client:
        yield client


@pytest.fixture(scope="module")
def one(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Searches the archive."""
    folder = tmp_path_factory.mktemp("node")
    database = of_folder(folder).database(folder)
    with archive.insert(database) as index, searching(index) as client:
        yield client


def found(client: Client, path: str, **query: Any) -> list[dict[str, Any]]:
    """Return the results of a search."""
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()
    return results


def uids(results: list[dict[str, Any]], level: Level) -> list[str]:
    return [values(each, UNIQUE[level].json_tag)[0] for each in results]


# --- What matches -----------------------------------------------------------------------------

# The patient level is no resource: its keys are those of studies.
SAMPLE = [(kind, S if level is P else level, keys) for kind, level, keys in KINDS[::3]]


@pytest.mark.parametrize(("kind", "level", "keys"), SAMPLE, ids=[each[0] for each in SAMPLE])
def test_the_rules_are_those_of_c_find(
    archive: Archive, client: Client, kind: str, level: Level, keys: Keys
) -> None:
    results = found(client, PATHS[level], **parameters(keys))
    expected = list(Oracle(archive).find(level, keys))
    assert uids(results, level) == [entity.own[UNIQUE[level].keyword] for entity in expected]
    shown = [keyword for keyword in keys if VR[keyword] not in ("SQ", "PN", "DS")]
    for result, entity in zip(results, expected, strict=True):
        for keyword in shown:
            said = values(result, TAGS[keyword]) if TAGS[keyword] in result else []
            assert [str(each) for each in said if each is not None] == texts_of(entity, keyword)


@pytest.mark.parametrize("name", FUZZY[::3])
def test_fuzzy_names(archive: Archive, one: Client, name: str) -> None:
    results = found(one, "/studies", PatientName=name, fuzzymatching="true")
    expected = Oracle(archive, fuzzy=True).find(S, {"PatientName": name})
    assert uids(results, S) == [entity.own["StudyInstanceUID"] for entity in expected]


@pytest.mark.parametrize(
    ("one_way", "other_way"),
    [
        ("StudyInstanceUID=1.2.3.7", "0020000D=1.2.3.7"),
        ("StudyInstanceUID=1.2.3.7", "0020000d=1.2.3.7"),
        ("StudyInstanceUID=1.2.3.1,1.2.3.5", "StudyInstanceUID=1.2.3.1%5C1.2.3.5"),
        ("ProcedureCodeSequence.CodeValue=P1", "00081032.00080100=P1"),
        ("StudyDescription=CT%20Abdomen", "StudyDescription=CT+Abdomen"),
        ("StudyDescription=Caf%C3%A9", "StudyDescription=Café"),
        ("StudyDescription=CT*&limit=1000000", "StudyDescription=CT*&offset=0"),
        ("StudyDescription=", "multiplevaluematching=true&emptyvaluematching=false"),
    ],
)
def test_the_same_query_in_two_ways(one: Client, one_way: str, other_way: str) -> None:
    first, second = (one.get(f"/studies?{query}").json() for query in (one_way, other_way))
    assert first
    assert uids(first, S) == uids(second, S)


@pytest.mark.parametrize(
    ("path", "level", "keys"),
    [
        ("/studies/1.2.3.7/series", E, {"StudyInstanceUID": "1.2.3.7"}),
        ("/studies/1.2.3.7/instances", I, {"StudyInstanceUID": "1.2.3.7"}),
        ("/studies/1.2.3.7/series/1.2.3.7.0/instances", I, {"SeriesInstanceUID": "1.2.3.7.0"}),
        ("/studies/9.9/series", E, {"StudyInstanceUID": "9.9"}),
        ("/studies/1.2.3.7/series/9.9/instances", I, {"SeriesInstanceUID": "9.9"}),
    ],
)
def test_the_path_is_a_key(
    archive: Archive, one: Client, path: str, level: Level, keys: Keys
) -> None:
    expected = Oracle(archive).find(level, keys)
    assert uids(found(one, path), level) == [each.own[UNIQUE[level].keyword] for each in expected]


# --- What is returned -------------------------------------------------------------------------


def keywords(result: dict[str, Any]) -> set[str]:
    names = {tag: name for name, tag in TAGS.items()}
    extra = {"00080005", "00080056", "00081190"}
    assert extra <= set(result)
    return {names[tag] for tag in set(result) - extra}


_OF_STUDIES = (
    "StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName PatientName"
    " PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID NumberOfStudyRelatedSeries"
    " NumberOfStudyRelatedInstances"
)
STUDY_KEYS = set(_OF_STUDIES.split())
SERIES_KEYS = {"Modality", "SeriesInstanceUID", "SeriesNumber", "NumberOfSeriesRelatedInstances"}
INSTANCE_KEYS = {"SOPClassUID", "SOPInstanceUID", "InstanceNumber"}


@pytest.mark.parametrize(
    ("path", "required"),
    [
        ("/studies", STUDY_KEYS),
        ("/series", STUDY_KEYS | SERIES_KEYS),
        ("/instances", STUDY_KEYS | SERIES_KEYS | INSTANCE_KEYS),
        ("/studies/1.2.3.7/series", SERIES_KEYS),
        ("/studies/1.2.3.7/instances", SERIES_KEYS | INSTANCE_KEYS),
        ("/studies/1.2.3.7/series/1.2.3.7.0/instances", INSTANCE_KEYS),
    ],
)
def test_the_required_attributes_of_a_resource(one: Client, path: str, required: set[str]) -> None:
    for result in found(one, path, limit=20):
        assert required <= keywords(result)
        assert list(result) == sorted(result)


def test_attributes_that_are_asked_for(one: Client) -> None:
    [result] = found(
        one,
        "/studies/1.2.3.7/series",
        includefield=["StudyDescription,00100010", "SeriesDate"],
        limit=1,
    )
    assert {"StudyDescription", "PatientName", "SeriesDate"} & keywords(result)
    assert "StudyDate" not in keywords(result)


def test_all_attributes(archive: Archive, one: Client) -> None:
    for result in found(one, "/studies", includefield="all"):
        [entity] = Oracle(archive).find(S, {"StudyInstanceUID": uids([result], S)[0]})
        known = {keyword for keyword, value in entity.values.items() if value not in ("", [])}
        assert known <= keywords(result)


def test_values_have_the_types_of_json(one: Client) -> None:
    studies = found(one, "/studies", includefield="PatientWeight,OtherPatientNames")
    weights = {str(each["00101030"]["Value"]) for each in studies if "00101030" in each}
    assert weights == {"[70]", "[70.0]", "[71.5]"}
    names = [values(each, "00101001") for each in studies if "00101001" in each]
    assert [{"Alphabetic": "Doe^John"}, {"Alphabetic": "Roe^Jane"}] in names
    assert {
        "Alphabetic": "Yamada^Tarou",
        "Ideographic": "山田^太郎",
        "Phonetic": "やまだ^たろう",
    } in [name for each in studies for name in values(each, "00100010")]


def test_a_result_says_where_it_is(one: Client) -> None:
    [result] = found(one, "/instances", SOPInstanceUID="1.2.3.7.0.0")
    assert values(result, "00081190") == [
        f"{one.base_url}/studies/1.2.3.7/series/1.2.3.7.0/instances/1.2.3.7.0.0"
    ]


# --- Pages ------------------------------------------------------------------------------------


def test_pages_are_the_whole(one: Client) -> None:
    whole = uids(found(one, "/instances"), I)
    pages = [uids(found(one, "/instances", limit=70, offset=at), I) for at in range(0, 300, 70)]
    assert [uid for page in pages for uid in page] == whole
    assert found(one, "/instances", offset=len(whole)) == []
    assert found(one, "/instances", limit=0) == []


def test_pages_are_stable_while_studies_arrive(tmp_path: Path) -> None:
    archive = Archive(6, 12)
    database = of_folder(tmp_path).database(tmp_path)
    with archive.insert(database) as index, searching(index) as client:
        first = found(client, "/studies", limit=3)
        with index.writing() as writer:
            row = {"id": 100, "patient": 1, "study_instance_uid": "0.1", "attributes": {}}
            writer.connection.execute(insert(study), row)
        second = found(client, "/studies", limit=3, offset=3)
    assert uids(first + second, S) == [f"1.2.3.{number}" for number in range(6)]


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        ("limit=5", '"There are additional results that can be requested"'),
        ("limit=30", None),
        ("limit=5&offset=25", None),
        (
            "Rows=512&includefield=PixelData,PatientName",
            '"These attributes are not supported, and were ignored: PixelData, Rows"',
        ),
        (
            "QueryRetrieveLevel=IMAGE&InstanceAvailability=OFFLINE",
            '"These attributes are not supported, and were ignored: '
            'InstanceAvailability, QueryRetrieveLevel"',
        ),
        ("PatientName=*", None),
    ],
)
def test_warnings(one: Client, query: str, warning: str | None) -> None:
    said = one.get(f"/studies?{query}").headers.get("warning")
    assert said == (warning and f"299 {one.base_url} {warning}")


def test_the_path_decides_about_the_level(one: Client) -> None:
    assert len(found(one, "/studies", QueryRetrieveLevel="IMAGE")) == 30


# --- Representations --------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["", "*/*", "application/*", JSON_TYPE, "application/json"])
def test_json_is_the_usual_representation(one: Client, accept: str) -> None:
    answer = one.get("/studies", headers={"Accept": accept})
    kind = "application/json" if accept == "application/json" else JSON_TYPE
    assert answer.headers["content-type"] == kind
    assert len(answer.json()) == 30


@pytest.mark.parametrize("accept", ["text/html", "application/dicom+xml", "application/dicom"])
def test_what_cannot_be_accepted(one: Client, accept: str) -> None:
    assert one.get("/studies", headers={"Accept": accept}).status_code == 406


def test_a_parameter_can_say_what_is_accepted(one: Client) -> None:
    answer = one.get("/studies", params={"accept": XML_TYPE}, headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("multipart/related")


def documents(answer: httpx.Response) -> list[ElementTree.Element]:
    """Return the parts of a response in XML."""
    boundary = answer.headers["content-type"].rpartition("boundary=")[2]
    *parts, end = answer.content.split(f"--{boundary}".encode())
    assert end == b"--\r\n"
    found = []
    for part in parts[1:]:
        head, _, body = part.partition(b"\r\n\r\n")
        assert head == b"\r\nContent-Type: application/dicom+xml"
        found.append(ElementTree.fromstring(body))
    return found


def test_xml_has_the_same_values(one: Client) -> None:
    query = {"includefield": "all"}
    in_json = found(one, "/studies", **query)
    in_xml = documents(one.get("/studies", params=query, headers={"Accept": XML_TYPE}))
    assert [_model(each) for each in in_xml] == [
        json.loads(re.sub(r'\^+"', '"', json.dumps(each)), parse_int=str, parse_float=str)
        for each in in_json
    ]


def _model(dataset: ElementTree.Element) -> dict[str, Any]:
    """Return the JSON model of a dataset in XML."""
    model = {}
    for attribute in dataset:
        assert attribute.tag == f"{NATIVE}DicomAttribute"
        found = [_value(each) for each in attribute]
        model[attribute.attrib["tag"]] = {"vr": attribute.attrib["vr"]} | (
            {"Value": found} if found else {}
        )
    return model


def _value(found: ElementTree.Element) -> Any:
    kind = found.tag.removeprefix(NATIVE)
    if kind == "Item":
        return _model(found)
    if kind == "PersonName":
        order = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
        return {
            group.tag.removeprefix(NATIVE): "^".join(
                (group.findtext(NATIVE + name) or "") for name in order
            ).rstrip("^")
            for group in found
        }
    assert kind == "Value"
    return found.text


def test_no_results(one: Client) -> None:
    answer = one.get("/studies", params={"PatientID": "nobody"})
    assert (answer.status_code, answer.json()) == (200, [])
    answer = one.get("/studies?PatientID=nobody", headers={"Accept": XML_TYPE})
    assert (answer.status_code, documents(answer)) == (200, [])


# --- Bad requests -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "PatientNam=Doe",
        "Patient.Name=Doe",
        "PatientName.PatientID=1",
        "ProcedureCodeSequence=P1",
        f"{'.'.join(['ProcedureCodeSequence'] * 30)}=1",
        "0010=1",
        "limit=-1",
        "limit=x",
        "limit=99999999999",
        "offset=1.5",
        "fuzzymatching=yes",
        "StudyDate=yesterday",
        "StudyInstanceUID=1.2.x",
        "NumberOfStudyRelatedSeries=many",
        "PatientID=1&PatientID=2",
        "PatientID=1&00100020=2",
        "includefield=Everything",
        f"StudyDescription={'*' * 30}&accept=@",
        "PatientName=" + "%5C".join(map(str, range(150))),
    ],
)
def test_bad_requests(one: Client, query: str) -> None:
    answer = one.get(f"/studies?{query}")
    assert answer.status_code == 400
    assert re.fullmatch(r"[^\n]{5,150}", answer.json()["detail"])


def test_what_is_no_uid(one: Client) -> None:
    assert one.get("/studies/x/series").status_code == 400


def test_a_key_of_the_path_cannot_be_another_one(one: Client) -> None:
    assert one.get("/studies/1.2.3.7/series?StudyInstanceUID=1.2.3.8").status_code == 400


NAMES_OF_PARAMETERS = st.sampled_from(
    [
        "limit",
        "offset",
        "includefield",
        "fuzzymatching",
        "accept",
        "",
        "00100010",
        "00081115.0020000E",
    ]
    + [key.keyword for key in QUERY_KEYS.values()]
) | st.text(max_size=12)
VALUES_OF_PARAMETERS = st.text(max_size=12) | st.text('0123456789*?-^\\,.="', max_size=12)


@settings(max_examples=80, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    path=st.sampled_from([*PATHS.values()]),
    query=st.dictionaries(NAMES_OF_PARAMETERS, VALUES_OF_PARAMETERS, max_size=4),
)
def test_whatever_is_asked_has_an_answer(one: Client, path: str, query: dict[str, str]) -> None:
    assert one.get(path, params=query).status_code in (200, 400, 406)


# --- Streaming --------------------------------------------------------------------------------


class Counted:
    """An index that counts the pages that were read."""

    studies = None

    def __init__(self, index: Index) -> None:
        self._index = index
        self.pages = 0

    def reading_once(self) -> Any:
        self.pages += 1
        return self._index.reading_once()


def test_the_first_results_are_there_after_the_first_page(archive: Archive, tmp_path: Path) -> None:
    database = of_folder(tmp_path).database(tmp_path)
    with archive.insert(database) as index:
        counted = Counted(index)
        models = Results(I, [I], Parameters([])).models(counted, "")
        next(models)
        assert counted.pages == 1
        assert len(list(models)) == 299
        assert counted.pages == 2


def test_a_search_ends_when_nobody_waits_for_it(archive: Archive, tmp_path: Path) -> None:
    database = of_folder(tmp_path).database(tmp_path)
    with archive.insert(database) as index:
        counted = Counted(index)
        nothing = Parameters([("ImageComments", "*nothing*")])
        results = Results(I, [I], nothing)
        assert list(results.models(counted, "", lambda: counted.pages > 1)) == []
        assert counted.pages == 2
