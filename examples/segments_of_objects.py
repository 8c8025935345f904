"""Makes masks of classes, and COCO's panoptic format, of objects annotated in COCO's format.

    python examples/segments_of_objects.py instances.json OUTPUT

writes OUTPUT/masks/NAME.png, the number of the class at each pixel of image NAME, OUTPUT/classes.txt, their names, and
OUTPUT/panoptic.json with OUTPUT/panoptic/NAME.png, in which all that is no object is the stuff "background". Where
objects overlap the smaller one is in front. Crowds have no class in the masks (255).
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

BACKGROUND, IGNORED = 0, 255


def draw_segments(objects: COCO, image: dict, numbers: dict) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Draws the objects of an image, large ones first: ids of segments (H, W), classes (H, W), and the segments."""
    ids = np.ones((image["height"], image["width"]), np.int64)
    classes = np.full(ids.shape, BACKGROUND, np.uint8)
    listed = [{"id": 1, "category_id": max(numbers) + 1, "iscrowd": 0}]
    annotations = objects.imgToAnns[image["id"]]
    for annotation in sorted(annotations, key=lambda entry: (-entry["iscrowd"], -entry["area"])):
        mask = objects.annToMask(annotation) > 0
        segment = {"id": len(listed) + 1, "category_id": annotation["category_id"], "iscrowd": annotation["iscrowd"]}
        ids[mask] = segment["id"]
        classes[mask] = IGNORED if annotation["iscrowd"] else numbers[annotation["category_id"]]
        listed.append(segment)
    seen = set(np.unique(ids).tolist())
    return ids, classes, [segment for segment in listed if segment["id"] in seen]


def main(annotations: str, output: str) -> None:
    objects, folder, entries = COCO(annotations), Path(output), []
    categories = objects.loadCats(sorted(objects.getCatIds()))
    numbers = {category["id"]: number for number, category in enumerate(categories, start=1)}
    if len(numbers) >= IGNORED:
        sys.exit(f"{annotations} has {len(numbers)} categories, more than a mask of 8 bits has numbers")
    for image in objects.loadImgs(objects.getImgIds()):
        ids, classes, segments = draw_segments(objects, image, numbers)
        name = Path(image["file_name"]).with_suffix(".png")
        for place, pixels in (("masks", classes), ("panoptic", np.stack([ids % 256, ids // 256, 0 * ids], -1))):
            path = folder / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        entries.append({"image_id": image["id"], "file_name": name.as_posix(), "segments_info": segments})
    things = [{"id": category["id"], "name": category["name"], "isthing": 1} for category in categories]
    stuff = {"id": max(numbers) + 1, "name": "background", "isthing": 0}
    content = {"images": list(objects.imgs.values()), "annotations": entries, "categories": [*things, stuff]}
    (folder / "panoptic.json").write_text(json.dumps(content))
    names = ["background", *(category["name"] for category in categories)]
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
