"""What every test with a peer needs: the peers."""

from __future__ import annotations

import pytest
from peers import Peers


@pytest.fixture(scope="session")
def peers() -> Peers:
    """The peers that this machine has; to ask for a missing one skips, or fails in CI."""
    return Peers()
