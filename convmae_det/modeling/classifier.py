"""Classifier: the meta-architecture of ImageNet's two tests, fine-tuning and linear probe (paper, section 4.1).

N images, H×W pixels, C3 channels of stage 3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from ..config.building import build_classifier_arguments
from ..ops.recomputation import recompute_activations
from .blocks import ConvBlock, TransformerBlock
from .encoder import Encoder

NORM_EPS = 1e-6
HEAD_DEVIATION, PROBE_DEVIATION = 2e-5, 0.01  # of the normal distribution that the head starts from


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """Encoder, mean over the tokens of stage 3, norm, linear layer.

    As a probe only the linear layer is trained, on outputs of the frozen encoder that a batch norm without parameters
    has standardised.
    """

    @configurable
    def __init__(
        self,
        *,
        encoder: Encoder,
        num_classes: int,
        pixel_mean: list[float],
        pixel_std: list[float],
        probe: bool = False,
        label_smoothing: float = 0.0,
    ):
        """Puts a head on an encoder.

        Args:
            encoder: of dense maps, without a final norm
            num_classes: outputs of the head
            pixel_mean, pixel_std: of each channel, of 255
            probe: see above
            label_smoothing: share of each target that all classes have in equal parts
        """
        super().__init__()
        self.encoder, self.probe, self.label_smoothing = encoder, probe, label_smoothing
        width = encoder.embed_dims[-1]
        self.fc_norm = nn.LayerNorm(width, eps=NORM_EPS)
        linear = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(linear.weight, std=PROBE_DEVIATION if probe else HEAD_DEVIATION)
        nn.init.zeros_(linear.bias)
        self.head: nn.Module = linear
        if probe:
            self.head = nn.Sequential(nn.BatchNorm1d(width, affine=False, eps=NORM_EPS), linear)
            self.encoder.requires_grad_(False)
            self.fc_norm.requires_grad_(False)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = build_classifier_arguments(cfg)
        encoder = Encoder(**arguments.pop("encoder"))
        if arguments.pop("activation_checkpoint"):
            recompute_activations(encoder, (ConvBlock, TransformerBlock))
        return arguments | {"encoder": encoder}

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> "ImageClassifier":
        """A probe's encoder stays as in evaluation: nothing of it is dropped."""
        super().train(mode)
        if self.probe:
            self.encoder.eval()
        return self

    def forward(
        self, batch: Sequence[dict] | Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """Computes the loss in training, else the probabilities of the classes.

        Args:
            batch: {"images": (N, channels, H, W)} in 0–255, best as uint8, and in training "labels", (N,) int64, or
                "targets", (N, classes) probabilities; or Detectron2's list of dicts, of which each "image" is
                (channels, H, W), all of one size, with its "label" or "target"

        Returns:
            {"loss_classification": scalar}, or for each image {"scores": (classes,) float32, which sum to 1}
        """
        if not isinstance(batch, Mapping):
            batch = _stack(batch)
        images = (batch["images"].to(self.device, non_blocking=True).float() - self.pixel_mean) / self.pixel_std
        logits = self.logits(images).float()
        if not self.training:
            return [{"scores": scores} for scores in logits.softmax(dim=1)]
        targets = batch["targets" if "targets" in batch else "labels"].to(self.device, non_blocking=True)
        return {"loss_classification": F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)}

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """images (N, channels, H, W), normalised, H and W multiples of 16 → (N, classes); differentiable."""
        return self.head(self.pool(images))

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        """images as for :meth:`logits` → (N, C3): the mean over the tokens of stage 3, normalised."""
        return self.fc_norm(self.encoder(images)[-1].mean(dim=(1, 2)))


def _stack(samples: Sequence[dict]) -> dict[str, torch.Tensor]:
    """Makes a batch of Detectron2's list of dicts."""
    batch = {"images": torch.stack([sample["image"] for sample in samples])}
    if "target" in samples[0]:
        batch["targets"] = torch.stack([torch.as_tensor(sample["target"]) for sample in samples])
    elif "label" in samples[0]:
        batch["labels"] = torch.tensor([int(sample["label"]) for sample in samples])
    return batch
