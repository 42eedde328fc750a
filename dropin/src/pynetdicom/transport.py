"""Servers, of which dicomwire has one kind."""

from __future__ import annotations

from dicomwire.service_user import AddressInformation as AddressInformation
from dicomwire.threaded.server import AssociationServer as AssociationServer

ThreadedAssociationServer = AssociationServer
