"""Weights: which formats there are, conversion between them, safe reading, atomic writing, loading with a report."""

from .loading import load_weights
from .report import Report

__all__ = ["Report", "load_weights"]
