"""Sphinx configuration; `sphinx-build -n -W docs docs/_build` builds the pages."""

from __future__ import annotations

from django_multipay import __version__

project = "django-multipay"
author = "django-multipay contributors"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"django-multipay {release}"
