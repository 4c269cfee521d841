"""Datasets from a user's own results."""
