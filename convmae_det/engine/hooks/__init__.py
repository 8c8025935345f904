"""What happens between the steps of training."""
