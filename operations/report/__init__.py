"""Command report: one run, or two side by side, as a page that needs no network -> reports/report.html."""
