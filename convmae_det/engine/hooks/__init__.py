"""Hooks that run between the steps of training."""
