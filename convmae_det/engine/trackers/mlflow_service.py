"""MLflow, by its library; its environment variables MLFLOW_… are obeyed."""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .process import PROJECT

BATCH = 100  # parameters that a server takes at once


class Service:
    """A run of MLflow, whose steps are iterations."""

    def __init__(self):
        import mlflow  # an extra, which this process alone imports

        self.mlflow = mlflow

    def check(self) -> str:
        return ""

    def begin(self, name: str, config: Mapping[str, Any], run_id: str) -> tuple[str, str]:
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys():
            self.mlflow.set_experiment(PROJECT)
        known = self._find(run_id) if run_id else None
        if known:
            self.run = self.mlflow.start_run(run_id=run_id)
        else:
            self.run = self.mlflow.start_run(run_name=os.environ.get("MLFLOW_RUN_NAME", name))
        parameters = {key: str(value) for key, value in config.items()}
        new = iter(parameters.keys() - (known.data.params.keys() if known else set()))  # they can't be changed
        while keys := sorted(itertools.islice(new, BATCH)):
            self.mlflow.log_params({key: parameters[key] for key in keys})
        store = re.sub(r"//[^/@]*@", "//", self.mlflow.get_tracking_uri())  # without a password
        return self.run.info.run_id, f"{self.run.info.run_name} ({self.run.info.run_id}) in {store}"

    def _find(self, run_id: str) -> Any:
        try:
            return self.mlflow.get_run(run_id)
        except self.mlflow.exceptions.MlflowException:  # of another store
            return None

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        self.mlflow.log_metrics({clean_name(name): value for name, value in scalars.items()}, step=step)
        for name, picture in pictures.items():
            self.mlflow.log_image(picture, artifact_file=f"pictures/{clean_name(name)}/{step:07d}.png")

    def finish(self, complete: bool, folder: str, files: Sequence[str], weights: Sequence[str]) -> None:
        for path in [*files, *weights]:
            self.mlflow.log_artifact(os.path.join(folder, path), os.path.dirname(path) or None)
        self.mlflow.end_run("FINISHED" if complete else "KILLED")


def clean_name(name: str) -> str:
    """Replaces what MLflow takes in no name of a metric or file, such as the @ of AP@300."""
    return re.sub(r"[^\w./ -]", "_", name)
