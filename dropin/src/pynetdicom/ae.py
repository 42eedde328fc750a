"""`AE`: dicomwire's, with the default title of pynetdicom and the options of `_config`."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from dicomwire.ae import ApplicationEntity as _ApplicationEntity
from dicomwire.events import EventHandlerType
from dicomwire.pdu_primitives import UserItem
from dicomwire.settings import Settings
from pynetdicom import _config
from pynetdicom._globals import (
    DEFAULT_MAX_LENGTH as DEFAULT_MAX_LENGTH,
    DEFAULT_TRANSFER_SYNTAXES as DEFAULT_TRANSFER_SYNTAXES,
    MODE_REQUESTOR as MODE_REQUESTOR,
)
from pynetdicom.association import Association
from pynetdicom.events import BoundHandlers
from pynetdicom.presentation import ListCXType as ListCXType, PresentationContext
from pynetdicom.transport import AssociationServer


class ApplicationEntity(_ApplicationEntity):
    """A DICOM application entity; see `dicomwire.AE`."""

    default_settings = Settings(connection_timeout=None)  # pynetdicom's; the other defaults agree
    association_class = Association
    handlers_class = BoundHandlers

    def __init__(self, ae_title: str = "PYNETDICOM") -> None:
        super().__init__(ae_title, self.default_settings)

    @property
    def settings(self) -> Settings:
        """Limits, deadlines and switches, as the options of the process have them now."""
        return _config.settings(self._settings)

    @settings.setter
    def settings(self, value: Settings) -> None:
        self._settings = value

    def associate(
        self,
        addr: str | tuple[str, int, int],
        port: int,
        contexts: list[PresentationContext] | None = None,
        ae_title: str = "ANY-SCP",
        max_pdu: int = DEFAULT_MAX_LENGTH,
        ext_neg: Sequence[UserItem] | None = None,
        bind_address: tuple[Any, ...] | None = None,
        tls_args: tuple[ssl.SSLContext, str | None] | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
    ) -> Association:
        """Request an association; see `dicomwire.AE.associate`."""
        _config.check("AE", self.ae_title, "ae_title")
        _config.check("AE", ae_title, "ae_title")
        _config.check_contexts(self.requested_contexts if contexts is None else contexts)
        association = super().associate(
            addr,
            port,
            contexts,
            ae_title,
            max_pdu,
            ext_neg,
            bind_address,
            tls_args,
            evt_handlers,
        )
        assert isinstance(association, Association)
        return association

    def make_server(
        self,
        address: tuple[Any, ...],
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        server_class: type[Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return a server that listens on `address`; see `dicomwire.AE.make_server`."""
        _config.check("AE", ae_title or self.ae_title, "ae_title")
        _config.check_contexts(self.supported_contexts if contexts is None else contexts)
        return super().make_server(
            address,
            ae_title,
            contexts,
            ssl_context,
            evt_handlers,
            server_class=server_class or AssociationServer,
            **kwargs,
        )


AE = ApplicationEntity
