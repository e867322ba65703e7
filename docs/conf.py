"""Configuration of Sphinx."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path[:0] = [str(Path(__file__).with_name("_ext")), str(Path(__file__).parents[1])]

project = "flask-accountflow"
author = "flask-accountflow contributors"
copyright = "flask-accountflow contributors"
release = version = version_of("flask-accountflow")

extensions = ["myst_parser", "reference_tables", "kept_by"]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# CONTRIBUTING and CHANGES are included from the root of the repository, where their own title stands.
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = f"flask-accountflow {release}"
