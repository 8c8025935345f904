"""How the weights are trained: schedule, parameter groups, gradient clipping."""
