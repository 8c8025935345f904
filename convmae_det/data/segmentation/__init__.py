"""Data for segmentors: images with a mask each, in which every pixel has the number of its class."""
