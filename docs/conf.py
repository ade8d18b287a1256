"""Sphinx configuration. The docs build without network: warnings are errors, tutorials are executed.

Environment
-----------
LATENTCELL_INTERSPHINX
    ``1`` links names of other packages to their documentation (needs network).
LATENTCELL_DOCS_EXECUTION
    myst-nb's execution mode: ``cache`` (default: run what changed), ``force``, ``off``.
"""

import os
import shutil
from datetime import datetime
from importlib.metadata import metadata
from pathlib import Path

HERE = Path(__file__).parent
# A backend of the caller's would pass to the notebooks' kernels, which then return no figures.
os.environ.pop("MPLBACKEND", None)

info = metadata("latentcell")
project = info["Name"]
author = info["Author"]
copyright = f"{datetime.now():%Y}, {author}"
version = release = info["Version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
default_role = "literal"

# Own names must resolve; those of other packages only do with intersphinx.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!latentcell\.).*"),
    (
        r"py:class",
        r"latentcell\.model\.(baselines\.)?_base\..*",
    ),  # any model; their methods are on the classes' pages
    (r"py:class", r"latentcell\.testing\._case\.Case"),  # its page is latentcell.testing.Case
]
if os.environ.get("LATENTCELL_INTERSPHINX") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "sklearn": ("https://scikit-learn.org/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = True

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = os.environ.get("LATENTCELL_DOCS_EXECUTION", "cache")
if nb_execution_mode == "off":
    suppress_warnings = ["myst-nb.lexer"]  # the language of cells that were not run is not known
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 1800
nb_execution_in_temp = True
nb_merge_streams = True
# progress bars and notes of libraries belong to the run, not to the page
nb_output_stderr = "remove"

html_theme = "sphinx_book_theme"
html_title = "latentcell"
html_theme_options = {"show_toc_level": 2, "use_download_button": True}
html_static_path = ["_static"]
html_css_files = ["pages.css"]


def copy_tutorials() -> None:
    """Bring the notebooks of tutorials/ into the source tree of Sphinx, which reads nothing outside of it."""
    for source in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
        target = HERE / "tutorials" / source.name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copyfile(source, target)
    known = {source.name for source in (HERE.parent / "tutorials").glob("*.ipynb")}
    for stale in (HERE / "tutorials").glob("*.ipynb"):
        if stale.name not in known:
            stale.unlink()


copy_tutorials()
