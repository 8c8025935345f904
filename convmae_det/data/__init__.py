"""Data sets: reading, registration and augmentation."""
