"""The PDUs, which are dicomwire's, by the names that programs know them by."""

from __future__ import annotations

from dicomwire.pdu_primitives import (
    PDU as PDU,
    Abort as A_ABORT_RQ,
    AssociateAC as A_ASSOCIATE_AC,
    AssociateRJ as A_ASSOCIATE_RJ,
    AssociateRQ as A_ASSOCIATE_RQ,
    PDataTF as P_DATA_TF,
    ReleaseRP as A_RELEASE_RP,
    ReleaseRQ as A_RELEASE_RQ,
)
