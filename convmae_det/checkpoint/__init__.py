"""Weights: which formats there are, conversion between them, safe reading, atomic writing, loading with a report."""

from .fitting import Strictness
from .loading import load_weights
from .report import Report

__all__ = ["Report", "Strictness", "load_weights"]
