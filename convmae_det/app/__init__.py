"""A page in the browser to try a trained network on."""
