"""How the site is built: `make docs`."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "dicomwire"
author = "The dicomwire developers"
copyright = author
version = release = installed("dicomwire")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_the_code"]
exclude_patterns = ["_build", "_ext"]

# A word in single backticks is a name of ours wherever there is one of that name.
default_role = "py:obj"
add_module_names = False
python_maximum_signature_line_length = 80

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"dicomwire {release}"
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "logo": {"text": "dicomwire"},
    "show_toc_level": 2,
    "show_prev_next": True,
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Both faces have an Association and an AE: where a docstring means either, the link is to one.
suppress_warnings = ["ref.python"]


def _is_left_out(app, what, name, member, skip, options):
    """Leave out the members that are only for the library, as `dir()` does."""
    function = member.fget if isinstance(member, property) else member
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    owner = getattr(module, getattr(function, "__qualname__", "").partition(".")[0], None)
    hidden = getattr(owner, "library_names", "").split()
    return True if name in ("library_names", *hidden) else None


def setup(app):
    app.connect("autodoc-skip-member", _is_left_out)
