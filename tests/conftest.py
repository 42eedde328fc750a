"""What tests of all kinds share."""

from __future__ import annotations

import pytest

from certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Authorities, and certificates for this machine, in order and not."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
