"""Shows results: one HTML page with figures, and charts for a terminal."""

from edgese.report.html import profile_page

__all__ = ["profile_page"]
