"""Sphinx: ``sphinx-build -W --keep-going -b html docs docs/_build/html``.

EKITOOLS_DOCS_EXECUTION  "force" runs every page's code (the default), "cache" only that of pages
                         which have changed, "off" none: for work on the text.
EKITOOLS_DOCS_INTERSPHINX  set it to link to the manuals of Python, NumPy, SciPy, xarray and ArviZ:
                         "1" fetches their inventories, a folder has them as python.inv, numpy.inv
                         and so on. Without it the build needs no network.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import mathjax  # the files of MathJax 3, in a wheel

import ekitools

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "ekitools"
author = "The ekitools developers"
copyright = author
version = release = ekitools.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "notebooks",
    "thumbnails",
]
exclude_patterns = ["_build", "_templates", "jupyter_execute", ".jupyter_cache", ".pytest_cache"]
templates_path = ["_templates"]
default_role = "py:obj"

MANUALS = {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
    "scipy": "https://docs.scipy.org/doc/scipy",
    "xarray": "https://docs.xarray.dev/en/stable",
    "arviz": "https://python.arviz.org/en/stable",
}
if inventories := os.environ.get("EKITOOLS_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        name: (
            manual,
            None if inventories == "1" else str(Path(inventories, f"{name}.inv").resolve()),
        )
        for name, manual in MANUALS.items()
    }
    intersphinx_timeout = 20

# Pages are MyST notebooks. What they print to standard error fails the build, warnings included.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = os.environ.get("EKITOOLS_DOCS_EXECUTION", "force")
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_show_tb = True
nb_output_stderr = "warn"
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # or the kernel says something of it
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say it, shapes included
autodoc_mock_imports = [
    name for name in ("torch", "jax", "umbridge", "aiohttp", "requests") if find_spec(name) is None
]
numpydoc_show_class_members = False  # the template lists those that have a docstring

# Formulas need no network: one file has all of MathJax, which draws with SVG and so without fonts.
MATHJAX = Path(mathjax.__file__).parent / "static" / "mathjax" / "es5" / "tex-svg-full.js"
mathjax_path = MATHJAX.name
mathjax3_config = {"options": {"enableMenu": False}}  # the menu would load further files

# Copy buttons for what a reader types, so not for what a cell prints.
copybutton_selector = "div.highlight:not(.cell_output div.highlight) pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "ekitools"
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["site.css"]
html_search_scorer = str(Path(__file__).parent / "_static" / "scorer.js")
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 9,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"start": [], "theory": [], "index": [], "measurements": []}
