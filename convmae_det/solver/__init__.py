"""The optimizer: schedule, parameter groups, gradient clipping."""
