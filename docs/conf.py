"""How the site is built: `make docs`."""

from importlib.metadata import version as installed

project = "dicomwire"
author = "The dicomwire developers"
version = release = installed("dicomwire")

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
myst_heading_anchors = 3
