"""Pages that explain themselves: what a run has come to, in one HTML file without anything from the network."""
