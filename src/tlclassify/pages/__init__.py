"""Reports and comparisons as self-contained HTML pages for people."""

from tlclassify.pages.comparison_page import build_comparison_page
from tlclassify.pages.report_page import build_report_page

__all__ = ["build_comparison_page", "build_report_page"]
