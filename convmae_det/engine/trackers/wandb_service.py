"""Weights & Biases, by its library; its environment variables WANDB_… are obeyed."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import wandb

from .process import PROJECT


class Service:
    """A run of wandb, whose steps are iterations."""

    def check(self) -> str:
        mode = wandb.setup().settings.mode
        if mode in ("offline", "disabled", "dryrun"):
            return ""
        try:
            known = wandb.login()  # looks for a key, and asks nobody, since there is no terminal
        except wandb.errors.Error:
            known = False
        return (
            ""
            if known
            else (
                "LOGGERS names wandb, which knows no API key here: run `wandb login` or set WANDB_API_KEY, or set "
                "WANDB_MODE=offline and send the run later by `wandb sync`"
            )
        )

    def begin(self, name: str, config: Mapping[str, Any], run_id: str) -> tuple[str, str]:
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", name),
            id=run_id or os.environ.get("WANDB_RUN_ID"),
            resume="allow",
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        return self.run.id, self.run.url or os.path.dirname(self.run.dir)

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        images = {name: wandb.Image(picture) for name, picture in pictures.items()}
        self.run.log({**scalars, **images}, step=step, commit=True)

    def finish(self, complete: bool, folder: str, files: Sequence[str], weights: Sequence[str]) -> None:
        folder = os.path.abspath(folder)
        for path in files:
            self.run.save(os.path.join(folder, path), base_path=folder, policy="now")
        if weights:
            artifact = wandb.Artifact(f"weights-{self.run.id}", type="model")
            for path in weights:
                artifact.add_file(os.path.join(folder, path))
            self.run.log_artifact(artifact)
        self.run.finish(exit_code=0 if complete else 1)
