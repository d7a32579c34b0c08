"""Shows results: one HTML page with figures, and charts for a terminal."""

from edgese.report.html import profile_page
from edgese.report.results import results_page

__all__ = ["profile_page", "results_page"]
