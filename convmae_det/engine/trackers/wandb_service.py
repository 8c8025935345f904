"""Weights & Biases, by its library; its environment variables WANDB_… are obeyed."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .process import PROJECT


class Service:
    """A run of wandb, whose steps are iterations."""

    def __init__(self):
        import wandb  # an extra, which this process alone imports

        self.wandb = wandb

    def check(self) -> str:
        mode = self.wandb.setup().settings.mode
        if mode in ("offline", "disabled", "dryrun"):
            return ""
        try:
            if self.wandb.login():  # looks for a key, and asks nobody, since there is no terminal
                return ""
        except self.wandb.errors.Error:
            pass
        return (
            "LOGGERS names wandb, which knows no API key here: run `wandb login` or set WANDB_API_KEY, or set "
            "WANDB_MODE=offline and send the run later by `wandb sync`"
        )

    def begin(self, name: str, config: Mapping[str, Any], run_id: str) -> tuple[str, str]:
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", name),
            id=run_id or os.environ.get("WANDB_RUN_ID"),
            resume="allow",
            config=dict(config),
            settings=self.wandb.Settings(silent=True, console="off"),
        )
        return self.run.id, self.run.url or os.path.dirname(self.run.dir)

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        images = {name: self.wandb.Image(picture) for name, picture in pictures.items()}
        self.run.log({**scalars, **images}, step=step, commit=True)

    def finish(self, complete: bool, folder: str, files: Sequence[str], weights: Sequence[str]) -> None:
        folder = os.path.abspath(folder)
        for path in files:
            self.run.save(os.path.join(folder, path), base_path=folder, policy="now")
        if weights:
            artifact = self.wandb.Artifact(f"weights-{self.run.id}", type="model")
            for path in weights:
                artifact.add_file(os.path.join(folder, path))
            self.run.log_artifact(artifact)
        self.run.finish(exit_code=0 if complete else 1)
