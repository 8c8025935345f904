"""The command `convmae-det`: a module for each of its commands."""
