"""The faces that damaged conversations are tried on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from aio_face import Asyncio
from hostile import under_test
from scenario import Face, Threaded


@pytest.fixture(autouse=True, params=[Threaded, Asyncio], ids=["threaded", "asyncio"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    face: Face = request.param()
    under_test.append(face)
    yield face
    under_test.pop()
    face.close()
