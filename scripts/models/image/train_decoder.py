"""Trains the half of the autoencoder that turns codes into pixels: `python -m scripts.models.image.train_decoder`."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from scripts.models.image.codes import Folds, fold_world, put_into
from scripts.models.image.model import build_vae
from scripts.models.image.training import fit, report, start_repeatably
from scripts.models.image.world import SIDE, all_scenes, picture_tensor

BATCH = 8
PEAK_RATE = 3e-3
CODE_NOISE = 0.05  # what the denoiser leaves over
WINDOW = SIDE // 2  # most steps see a quarter of the picture: four times cheaper, and less of it is white
GRID = 8  # pixels of one number of the code
_COLOURS = 3
_LINEAR = 3.0  # added before SiLU, which from there on hardly bends


def loss_of(vae: AutoencoderKL, folds: Folds, real: Tensor) -> Tensor:
    """How far the picture read back from its code is off; L1 keeps the edges sharp."""
    codes = folds.codes(real)
    off = vae.decode(codes + CODE_NOISE * torch.randn_like(codes)).sample - real
    return off.abs().mean() + off.square().mean()


def some(pixels: Tensor) -> Tensor:
    return pixels[torch.randint(len(pixels), (BATCH,))]


def window(pixels: Tensor) -> Tensor:
    """The same random part of each picture."""
    top, left = (GRID * int(torch.randint((SIDE - WINDOW) // GRID + 1, ())) for _ in range(2))
    return pixels[:, :, top : top + WINDOW, left : left + WINDOW]


@torch.no_grad()
def start_from_mean_colours(vae: AutoencoderKL, folds: Folds, pixels: Tensor) -> None:
    """The untrained decoder gives each cell its mean colour: from a random start the colours come last, after the shapes."""
    decoder = vae.decoder
    for block in decoder.modules():
        if isinstance(block, ResnetBlock2D):  # passes its input on
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
    codes = folds.codes(pixels).movedim(1, -1).flatten(0, 2)
    means = nn.functional.avg_pool2d(pixels - 1, GRID).movedim(1, -1).flatten(0, 2)
    nn.init.dirac_(vae.post_quant_conv.weight)
    nn.init.zeros_(vae.post_quant_conv.bias)
    _first_channels(decoder.conv_in, torch.linalg.lstsq(codes, means).solution.T)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Conv2d) and ("conv_shortcut" in name or "upsamplers" in name or name == "conv_out"):
            _first_channels(module, torch.eye(_COLOURS))
    decoder.conv_norm_out.bias[:_COLOURS] = _LINEAR
    decoder.conv_out.bias[:] = 1 - _LINEAR


def _first_channels(conv: nn.Conv2d, weight: Tensor) -> None:
    conv.weight[:_COLOURS], conv.bias[:_COLOURS] = 0.0, 0.0
    tap = conv.kernel_size[0] // 2
    conv.weight[:_COLOURS, : weight.shape[1], tap, tap] = weight


def main(
    out: Annotated[Path, typer.Option(help="folder of the model")],
    steps: Annotated[int, typer.Option(help="of 8 windows")] = 500,
    whole_steps: Annotated[int, typer.Option(help="of 8 whole pictures, after those")] = 60,
) -> None:
    start_repeatably()
    folds, vae, pixels = fold_world(), build_vae(), picture_tensor(list(all_scenes()))
    put_into(vae, folds)
    start_from_mean_colours(vae, folds, pixels[::9])
    trained = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    report(fit(trained, lambda: loss_of(vae, folds, window(some(pixels))), steps, PEAK_RATE), 25)
    report(fit(trained, lambda: loss_of(vae, folds, some(pixels)), whole_steps, PEAK_RATE / 3), 20)
    vae.save_pretrained(out / "vae")


if __name__ == "__main__":
    typer.run(main)
