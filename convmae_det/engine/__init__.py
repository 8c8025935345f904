"""Training loops, their checkpoints and processes."""
