"""A build hook of hatchling that stops an installation beside the real pynetdicom.

Both have the same import name, and only one can be imported by it.
"""

from __future__ import annotations

import site
import sysconfig
from importlib.metadata import distributions
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REFUSAL = """\

pynetdicom {version} is installed in {folder}.

dicomwire-pynetdicom has the same import name, so that only one of them can be used. Nothing was
changed. To let programs run on dicomwire:

    pip uninstall pynetdicom

and then install dicomwire-pynetdicom again.
"""


class RefuseBesidePynetdicom(BuildHookInterface):
    """Looks into the environment of the interpreter that builds, isolated or not."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Stop the build where pynetdicom is installed."""
        # pip hides what is installed from a build, but sysconfig still knows where that is.
        folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        if site.ENABLE_USER_SITE:
            folders.append(site.getusersitepackages())
        for found in distributions(name="pynetdicom", path=folders):
            if found.version.endswith("+dicomwire"):
                continue  # what is in the folder "requirement": it has no modules
            folder = found.locate_file("")
            raise SystemExit(REFUSAL.format(version=found.version, folder=folder))
