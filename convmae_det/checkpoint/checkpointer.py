"""The checkpoints of a run: written completely or not at all, read without running code, and loaded completely."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..errors import InputError, shorten_error
from ..files import atomic_write
from .adapters import KEY as ADAPTERS
from .adapters import select_adapters
from .class_names import check_class_names
from .finding import find_model_tensors
from .fitting import Strictness
from .loading import assign_weights
from .reading import check_finite, find_local_file, read_checkpoint
from .record import is_recorded
from .weights import Weights
from .writing import describe_model, write_checkpoint

logger = logging.getLogger(__name__)


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, for files that it wrote itself.

    A file contains tensors and plain Python values under "model", the names of the checkpointables, and "iteration";
    of a model with adapters, whose weights are merged under "model", also what they were before (adapters.py).
    """

    def __init__(self, model: nn.Module, save_dir: str = "", *, max_to_keep: int = 0, **options: Any):
        """Takes Detectron2's options.

        Args:
            model: whose weights are saved and loaded
            save_dir: the folder of the run
            max_to_keep: how many numbered checkpoints to keep, the newest; 0: all
            **options: of DetectionCheckpointer, and checkpointables
        """
        super().__init__(model, save_dir, **options)
        self.max_to_keep = max_to_keep

    def save(self, name: str, **extra: Any) -> None:
        """Writes `name`.pth in the folder of the run, and its name to last_checkpoint; on the main process only."""
        if not (self.save_dir and self.save_to_disk):
            return
        states = {key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()}
        path = os.path.join(self.save_dir, f"{name}.pth")
        adapters = select_adapters(self.model.state_dict())
        content = describe_model(self.model) | ({ADAPTERS: adapters} if adapters else {}) | states | extra
        write_checkpoint(content, path, recorded=True)
        self.tag_last_checkpoint(os.path.basename(path))
        logger.info(f"Checkpoint written: {path}")
        self._delete_old()

    def _delete_old(self) -> None:
        """Deletes old checkpoints of the run, also of earlier processes: it may have been resumed often."""
        if not self.max_to_keep:
            return
        last = self.get_checkpoint_file()
        numbered = filter(is_recorded, Path(self.save_dir).glob(f"model_{'[0-9]' * 7}.pth"))  # not a user's own
        newest_first = sorted(numbered, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
        for path in newest_first[self.max_to_keep :]:
            if path != Path(last):
                with contextlib.suppress(OSError):  # an old file only takes space
                    path.unlink()

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with atomic_write(os.path.join(self.save_dir, "last_checkpoint")) as file:
            file.write(last_filename_basename.encode())

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Loads the model and the named checkpointables, by default all.

        Returns:
            What else the file contains.

        Raises:
            InputError: the file can't be read, contains numbers that are not finite, or is of another model.
        """
        file = find_local_file(path)
        content = read_checkpoint(file)
        check_finite(content, file)
        tensors, entries = find_model_tensors(content, file)
        check_class_names(self.model, entries, file, Strictness.EXACT)
        adapters = entries.pop(ADAPTERS, {}) if select_adapters(self.model.state_dict()) else {}
        assign_weights(self.model, Weights.from_run(file, tensors | adapters), Strictness.EXACT)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in entries:
                self._load_state(key, entries.pop(key), file)
        return entries

    def _load_state(self, key: str, state: Any, path: Path) -> None:
        try:
            self.checkpointables[key].load_state_dict(state)
        except InputError:
            raise
        except Exception as error:  # wrong states fail in many ways
            raise InputError(
                f"{path} doesn't hold the state of such a run ({type(error).__name__}: {shorten_error(error)}): name "
                "another checkpoint, or give it as MODEL.WEIGHTS to start a new run from its weights"
            ) from error
