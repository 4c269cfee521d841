"""Settings of the documentation site: ``sphinx-build -W docs site/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

import defectbench

sys.path.insert(0, str(Path(__file__).parent))  # for from_code.py

project = "defectbench"
author = "The defectbench developers"
project_copyright = author
version = release = defectbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_code"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
highlight_language = "none"
smartquotes = False  # they make a dash of the two hyphens of an option
myst_heading_anchors = 4
source_suffix = {".md": "markdown", ".ipynb": "markdown"}  # from_code.py turns notebooks into Markdown

autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_use_ivar = True

html_theme = "furo"
html_title = "defectbench"
html_show_sphinx = False
html_copy_source = False
html_show_search_summary = False  # the browser may not read other pages from a disk
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/leaderboard.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
