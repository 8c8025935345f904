"""Configuration: every key and its default, YAML that can't run code, checks, and what modeling/ is built from."""

from .defaults import add_convmae_config

__all__ = ["add_convmae_config"]
