"""Data sets: what is read, how it is registered and augmented."""
