"""Retrieval is the same over every index and store."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from backends import Backend
from images import image_object
from PIL import Image as Pictures
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from running_node import store
from web_client import client_of

from dicomwire.node.server import Node

PIXELS = np.random.default_rng(1).integers(0, 256, (2, 32, 32), np.uint8)
STUDY = "/dicom-web/studies/1.2.3"
SERIES = f"{STUDY}/series/1.2.3.1"


def test_objects_frames_and_pictures_come_from_any_store(pair: Backend, tmp_path: Path) -> None:
    compressed = image_object(PIXELS, number=2)
    compressed.compress(RLELossless, generate_instance_uid=False)
    objects = [image_object(PIXELS, ImplicitVRLittleEndian, 1), compressed]
    configuration = pair.configuration(tmp_path / "node", http=0)
    with Node(configuration) as node, client_of(node) as client:
        assert store(node, *objects) == [0, 0]
        for number in (1, 2):
            path = f"{SERIES}/instances/1.2.3.1.{number}"
            single = client.get(path, headers={"Accept": "application/dicom"})
            assert (dcmread(io.BytesIO(single.content)).pixel_array == PIXELS).all()
            octets = {"Accept": "application/octet-stream"}
            frame = client.get(f"{path}/frames/2", headers=octets)
            assert frame.content == PIXELS[1].tobytes()
        for path in (STUDY, SERIES):
            picture = client.get(f"{path}/thumbnail")
            assert Pictures.open(io.BytesIO(picture.content)).size == (128, 128)
            parts = client.get(path, headers={"Accept": "multipart/related"})
            assert parts.content.count(b"DICM") == 2
        assert client.get("/dicom-web/studies/%00/thumbnail").status_code == 404
