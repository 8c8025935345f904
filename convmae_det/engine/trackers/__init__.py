"""Trackers of experiments, each in a process of its own, so that training neither waits for it nor fails with it."""
