"""Reports on evaluations: tables with intervals, plots, error kinds, and a failure browser."""
