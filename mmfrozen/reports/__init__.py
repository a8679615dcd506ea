"""Make tables, charts and pages from the records of runs and traces."""
