"""Data for classification: images with a label each, from folders of classes or a table."""
