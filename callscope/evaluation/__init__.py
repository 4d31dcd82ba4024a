"""Scores runs of the pipeline against labels, compares two of them, and tells both in a report."""
