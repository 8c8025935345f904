"""Annotations in other formats than COCO's, converted to the content of a file in COCO's; the images are not moved."""
