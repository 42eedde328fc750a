"""The checks that `_config.VALIDATORS` begins with."""

from __future__ import annotations

from pynetdicom._config import validate_ae as validate_ae, validate_ui as validate_ui
