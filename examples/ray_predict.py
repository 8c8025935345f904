"""Finds objects in many images with Ray Data: each actor holds a detector, and takes batches of paths.

    pip install 'ray[data]'
    python examples/ray_predict.py output/b/config.yaml output/b/model_final.pth photos/ found/ --actors 8 --gpus 1

On a cluster, start it on a node of it; all nodes must see the files. found/ receives Parquet files with a row for each
image: "path", "objects" in COCO's results format as JSON, and "problem", why it could not be read.
"""

import argparse
import json
import os
import sys

import numpy as np

from convmae_det import Predictor
from convmae_det.data.pretraining.folders import list_images
from convmae_det.errors import InputError


class Detector:
    """What an actor runs: built once, called for each batch."""

    def __init__(self, config_file: str, weights: str, pairs: tuple[str, ...] = ()):
        self.predictor = Predictor(config_file, weights, pairs=pairs)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Finds the objects in the images at "path", (n,) str; an image that can't be read leaves the others alone."""
        rows = [self._find(str(path)) for path in batch["path"]]
        return {"path": batch["path"]} | {
            name: np.array([row[name] for row in rows]) for name in ("objects", "problem")
        }

    def _find(self, path: str) -> dict[str, str]:
        try:
            entries = self.predictor.to_coco(self.predictor(path), path)
        except InputError as error:
            return {"objects": "[]", "problem": str(error)}
        return {"objects": json.dumps(entries), "problem": ""}


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        import ray
    except ImportError:
        print("error: Ray is not installed: pip install 'ray[data]'", file=sys.stderr)
        return 1
    try:
        paths = [image["file_name"] for image in list_images(os.path.realpath(args.images))]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    images = ray.data.from_items([{"path": path} for path in paths])
    found = images.repartition(max(args.actors, len(paths) // 256)).map_batches(
        Detector,
        fn_constructor_args=(os.path.realpath(args.config_file), os.path.realpath(args.weights)),
        batch_size=args.batch_size,
        compute=ray.data.ActorPoolStrategy(size=args.actors),
        num_gpus=args.gpus,
    )
    found.write_parquet(os.path.realpath(args.output))
    print(f"{len(paths):,} images: {args.output}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config_file", help="the config.yaml that training wrote beside the weights")
    parser.add_argument("weights", help="a checkpoint of training, such as model_final.pth")
    parser.add_argument("images", help="a folder, searched at any depth")
    parser.add_argument("output", help="the folder that receives the Parquet files")
    parser.add_argument("--actors", metavar="N", type=int, default=1, help="detectors at work (default: %(default)s)")
    parser.add_argument("--gpus", metavar="N", type=float, default=0, help="of each actor (default: %(default)s)")
    parser.add_argument("--batch-size", metavar="N", type=int, default=32, help="paths that an actor takes at once")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
