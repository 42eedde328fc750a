"""The watcher reads that a peer is gone before a pool thread ends the association."""

from __future__ import annotations

from dicomwire import AE
from raw_peer import VERIFICATION, context, request_pdu


def test_a_release_at_this_moment_is_none_and_no_error(world):
    ae = AE("SCP")
    ae.add_supported_context(VERIFICATION)
    sock = world.connect(ae.start_server(("192.0.2.1", 0), block=False))
    sock.arrive(request_pdu(context(1, VERIFICATION)).encode())
    world.run()
    (association,) = ae.active_associations
    sock.end()
    world.watcher.look()
    assert association.is_established
    association.release()
    assert association.is_aborted
    world.run()
    assert ae.active_associations == []
