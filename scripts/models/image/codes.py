"""The encoder of the autoencoder, in closed form: the principal components of the world's 8 x 8 pixel cells.

The picture is folded three times (2 x 2 neighbours into channels), and after each folding only the components that vary
most are kept; what is left is scaled to unit variance. White is 0. Nothing is trained, so nothing has to wait for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from scripts.models.image.world import COLOURS, SHAPES, SIZES, Scene, picture_tensor

KEPT: Final = (12, 14, 12)  # components after each folding; 12 is all there is after the first
_STEADY: Final = 512.0  # two channels of plus and minus so much make the deviation of the last normalisation constant
_LINEAR: Final = 14.0  # added before SiLU, which from there on is a straight line, and taken off after it
_SHRUNK: Final = 0.1  # the components on their way through SiLU
_LOG_VARIANCE: Final = -14.0  # of the code: it is exact


@dataclass(frozen=True, slots=True)
class Folds:
    """weights[level]: (kept, channels, 2, 2); scale: (components,), to unit variance."""

    weights: Sequence[Tensor]
    scale: Tensor

    def codes(self, pixels: Tensor) -> Tensor:
        """(pictures, components, 8, 8), as the encoder gives them."""
        folded = pixels - 1
        for weight in self.weights:
            folded = functional.conv2d(folded, weight, stride=2)
        return folded * self.scale[:, None, None]


def fold_world() -> Folds:
    """From every shape in the middle; elsewhere the cells are the same, since all places are on their grid."""
    scenes = [Scene(colour, shape, size) for colour in COLOURS for shape in SHAPES for size in SIZES]
    folded = picture_tensor(scenes) - 1
    weights = []
    for kept in KEPT:
        weight = _principal(folded, kept)
        weights.append(weight)
        folded = functional.conv2d(folded, weight, stride=2)
    return Folds(weights, 1 / folded.std((0, 2, 3)))


def put_into(vae: AutoencoderKL, folds: Folds) -> None:
    """Makes the encoder give the codes."""
    encoder, last = vae.encoder, KEPT[-1]
    with torch.no_grad():
        _straighten(encoder)
        _only(encoder.conv_in, torch.eye(3)[:, :, None, None], 1)
        encoder.conv_in.bias[:3] = -1.0
        weights = [*folds.weights[:-1], torch.cat([folds.weights[-1], -folds.weights[-1]])]  # so that their mean is 0
        for block, weight in zip(encoder.down_blocks, weights, strict=False):
            _only(block.downsamplers[0].conv, weight, 0)
        channels = encoder.conv_norm_out.num_channels
        encoder.down_blocks[2].downsamplers[0].conv.bias[-2:] = torch.tensor([_STEADY, -_STEADY])
        encoder.conv_norm_out.weight[:] = _SHRUNK * _STEADY * (2 / channels) ** 0.5
        encoder.conv_norm_out.bias[:] = _LINEAR
        scale = folds.scale / _SHRUNK
        _only(encoder.conv_out, torch.diag(scale)[:, :, None, None], 1)
        encoder.conv_out.bias[:last] = -_LINEAR * scale
        encoder.conv_out.bias[last:] = _LOG_VARIANCE
        _only(vae.quant_conv, torch.eye(2 * last)[:, :, None, None], 0)


def _principal(folded: Tensor, kept: int) -> Tensor:
    """The `kept` directions along which 2 x 2 neighbours vary most, (kept, channels, 2, 2). White stays 0."""
    rows = functional.unfold(folded, 2, stride=2).transpose(1, 2).flatten(0, 1).double()
    _, directions = torch.linalg.eigh(rows.T @ rows)
    return directions.flip(1)[:, :kept].T.reshape(kept, folded.shape[1], 2, 2).float()


def _straighten(encoder: nn.Module) -> None:
    """Blocks pass their input on; where the width changes, channel by channel."""
    for name, module in encoder.named_modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
        if name.endswith("conv_shortcut"):
            nn.init.dirac_(module.weight)
            nn.init.zeros_(module.bias)


def _only(conv: nn.Conv2d, weight: Tensor, tap: int) -> None:
    """Sets the first channels to `weight`, its corner at `tap`, and everything else to 0."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    outputs, inputs, height, width = weight.shape
    conv.weight[:outputs, :inputs, tap : tap + height, tap : tap + width] = weight
