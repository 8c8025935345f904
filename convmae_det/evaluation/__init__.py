"""Metrics out of results, without training."""
