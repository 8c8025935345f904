"""The checks: functions that take an `Inspection` and yield findings, in the order in which they are shown."""

from .annotations import (
    crowd_regions,
    images_without_objects,
    objects_without_masks,
    refused_entries,
    unreadable_data_sets,
)
from .classes import classes_in_one_part, different_categories, empty_classes, names_alike, rare_classes
from .duplicates import duplicate_images, images_in_both_parts, similar_images, similar_images_in_both_parts
from .images import (
    images_of_other_size,
    missing_images,
    pages_of_files,
    turned_photos,
    unlisted_images,
    unreadable_images,
    what_reading_said,
)
from .objects import (
    boxes_outside_images,
    boxes_unlike_masks,
    crossing_outlines,
    objects_annotated_twice,
    tiny_objects,
)
from .sizes import objects_sized_otherwise, objects_small_for_input, objects_unlike_anchors, small_images

CHECKS = (
    unreadable_data_sets,
    refused_entries,
    missing_images,
    unreadable_images,
    images_of_other_size,
    images_in_both_parts,
    different_categories,
    objects_without_masks,
    similar_images_in_both_parts,
    duplicate_images,
    boxes_outside_images,
    boxes_unlike_masks,
    tiny_objects,
    crossing_outlines,
    objects_annotated_twice,
    empty_classes,
    classes_in_one_part,
    rare_classes,
    names_alike,
    objects_small_for_input,
    objects_sized_otherwise,
    objects_unlike_anchors,
    turned_photos,
    similar_images,
    crowd_regions,
    images_without_objects,
    small_images,
    pages_of_files,
    unlisted_images,
    what_reading_said,
)
