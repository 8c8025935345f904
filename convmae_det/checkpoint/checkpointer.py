"""The checkpoints of a run: written whole or not at all, read without running code, and loaded completely."""

import os
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer

from ..errors import InputError
from .reading import local_path, read
from .report import collapse_blocks, size
from .writing import atomic_write, write

MAX_LISTED = 6  # problems named in one error


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, for files that it wrote itself.

    A file holds tensors and plain Python values under "model", the names of the checkpointables, and "iteration".
    """

    def save(self, name: str, **extra: Any) -> None:
        """Writes `name`.pth in the folder of the run, and its name to last_checkpoint; on the main process only."""
        if not (self.save_dir and self.save_to_disk):
            return
        states = {key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()}
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        write({"model": self.model.state_dict()} | states | extra, path)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with atomic_write(os.path.join(self.save_dir, "last_checkpoint")) as file:
            file.write(last_filename_basename.encode())

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Loads the model and the named checkpointables, by default all; returns what else the file holds.

        Raises InputError: the file can't be read, or any parameter of the model is missing or has another shape there.
        """
        self._path = str(local_path(path))
        return super().load(self._path, checkpointables)

    def _load_file(self, filename: str) -> dict:
        content = read(filename)
        return content if "model" in content else {"model": content}

    def _log_incompatible_keys(self, incompatible) -> None:
        """Weights without a use are only logged; a model with random parts is never what was meant."""
        problems = [(name, "is missing") for name in incompatible.missing_keys]
        problems += [
            (name, f"is {size(found)}, not {size(wanted)}") for name, found, wanted in incompatible.incorrect_shapes
        ]
        if problems:
            lines = collapse_blocks(problems)
            more = [f"and {len(lines) - MAX_LISTED} more"] * (len(lines) > MAX_LISTED)
            raise InputError(
                f"{self._path} is of another model than the configuration describes: "
                f"{'; '.join(lines[:MAX_LISTED] + more)}"
            )
        super()._log_incompatible_keys(incompatible)
