"""Pictures of reconstructions, training curves and predictions, each a PIL image."""
