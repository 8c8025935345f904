"""Images with annotated objects."""
