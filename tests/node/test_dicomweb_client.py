"""dicomweb-client, an independent program, searches and retrieves all that DICOMweb has."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from images import image_object
from PIL import Image as Pictures
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless
from running_node import store
from web_client import serving

PIXELS = np.random.default_rng(1).integers(0, 4096, (3, 32, 32), np.uint16)
SERIES = ("1.2.3", "1.2.3.1")
RLE, PLAIN = (*SERIES, "1.2.3.1.1"), (*SERIES, "1.2.3.1.2")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DICOMwebClient]:
    """A client of a node with a compressed image of three frames, and one of a single frame."""
    with serving(tmp_path_factory.mktemp("peer")) as node:
        compressed = image_object(PIXELS, number=1, BitsStored=12)
        compressed.compress(RLELossless, generate_instance_uid=False)
        assert store(node.node, compressed, image_object(PIXELS[0], number=2)) == [0, 0]
        yield DICOMwebClient(f"{node.client.base_url}/dicom-web")


def test_it_searches(client: DICOMwebClient) -> None:
    (study,) = client.search_for_studies(search_filters={"PatientID": "P1"})
    assert study["0020000D"]["Value"] == ["1.2.3"]
    filters = {"Modality": "CT", "PatientName": "doe*"}
    (series,) = client.search_for_series(search_filters=filters, fields=["StudyDescription"])
    assert series["0020000E"]["Value"] == ["1.2.3.1"]
    found = client.search_for_instances(*SERIES, limit=1, offset=1)
    assert [each["00080018"]["Value"] for each in found] == [[PLAIN[2]]]
    assert client.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "jane"})
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []


def test_it_retrieves_metadata(client: DICOMwebClient) -> None:
    for found in (
        client.retrieve_study_metadata("1.2.3"),
        client.retrieve_series_metadata(*SERIES),
    ):
        datasets = [Dataset.from_json(each, lambda url: b"") for each in found]
        assert [ds.SOPInstanceUID for ds in datasets] == [RLE[2], PLAIN[2]]
        assert [ds.Rows for ds in datasets] == [32, 32]


def test_it_retrieves_instances(client: DICOMwebClient) -> None:
    for syntax in (ExplicitVRLittleEndian, JPEGLSLossless, RLELossless):
        types = (("application/dicom", syntax),)
        ds = client.retrieve_instance(*RLE, media_types=types)
        assert ds.file_meta.TransferSyntaxUID == syntax
        assert (ds.pixel_array == PIXELS).all()


def test_it_retrieves_studies_and_series(client: DICOMwebClient) -> None:
    for found in (client.retrieve_study("1.2.3"), client.retrieve_series(*SERIES)):
        assert [ds.SOPInstanceUID for ds in found] == [RLE[2], PLAIN[2]]
    types = (("application/dicom", "*"),)
    syntaxes = [
        ds.file_meta.TransferSyntaxUID for ds in client.iter_series(*SERIES, media_types=types)
    ]
    assert syntaxes == [RLELossless, ExplicitVRLittleEndian]


def test_it_retrieves_frames(client: DICOMwebClient) -> None:
    frames = client.retrieve_instance_frames(*RLE, frame_numbers=[3, 1])
    assert frames == [PIXELS[2].tobytes(), PIXELS[0].tobytes()]
    frames = client.retrieve_instance_frames(
        *RLE, frame_numbers=[2], media_types=(("image/dicom-rle", RLELossless),)
    )
    ds = dcmread(io.BytesIO(_bytes(client, RLELossless)))
    assert frames[0] in ds.PixelData


def _bytes(client: DICOMwebClient, syntax: str) -> bytes:
    output = io.BytesIO()
    ds = client.retrieve_instance(*RLE, media_types=(("application/dicom", syntax),))
    ds.save_as(output)
    return output.getvalue()


def test_it_retrieves_pictures(client: DICOMwebClient) -> None:
    content = client.retrieve_instance_rendered(
        *PLAIN, media_types=("image/png",), params={"viewport": "16,16", "window": "2048,4096"}
    )
    assert Pictures.open(io.BytesIO(content)).size == (16, 16)
    content = client.retrieve_instance_frames_rendered(
        *RLE, frame_numbers=[2], media_types=("image/jpeg",)
    )
    assert Pictures.open(io.BytesIO(content)).size == (32, 32)


def test_it_retrieves_the_pixels_as_bulk_data(client: DICOMwebClient) -> None:
    metadata = client.retrieve_instance_metadata(*PLAIN)
    # The Host that this client sends has no port, but the URLs of the node have it.
    (data,) = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert data == PIXELS[0].tobytes()
