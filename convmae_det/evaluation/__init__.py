"""Metrics of results, without training."""
