"""What a network costs: operations, time and memory."""
