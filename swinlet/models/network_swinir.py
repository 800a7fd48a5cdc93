"""SwinIR: the one network of this project; teacher, student and V2 are sizes and variants of it.

Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCVW 2021 (arXiv:2108.10257). Parameter names and
shapes are those of the official implementation, so its checkpoints load strictly, and ours load there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinlet.models.convolution import Bottleneck3x3, Conv3x3
from swinlet.models.image_network import ImageNetwork
from swinlet.models.transformer import (
    ResidualGroup,
    SwinTransformerBlock,
    relative_position_index,
    shifted_window_mask,
)
from swinlet.models.upsampler_fold import FoldedUpsampler
from swinlet.weights import without_derived_buffers

Upsampler = Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv", ""]

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, fixed by the official checkpoints
UPSAMPLER_WIDTH = 64

MAX_VALUES = 10**9
"""A network may have so many weights and buffered values; the largest published SwinIR has 28 million."""

_LIMITS = {"embed_dim": 2**16, "img_size": 2**16, "window_size": 2**8, "mlp_ratio": 2**10, "img_range": 10**6}
_MAX_BLOCKS = 1000


def reflect_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (N,C,H,W) at the bottom and right to a multiple of ``multiple`` by reflection.

    Equal to ``F.pad(mode="reflect")`` where that is defined; an image smaller than the padding is reflected
    repeatedly, so that a single pixel works as well.
    """
    for dim in (2, 3):
        size = x.shape[dim]
        pad = -size % multiple
        if pad:
            period = max(2 * (size - 1), 1)
            index = torch.arange(size + pad, device=x.device) % period
            x = x.index_select(dim, torch.minimum(index, period - index) if size > 1 else index)
    return x


def residual_conv(dim: int, resi_connection: str) -> nn.Module:
    """What ends a residual group and takes the residual as second argument."""
    return Conv3x3(dim, dim) if resi_connection == "1conv" else Bottleneck3x3(dim)


def to_image(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens (N, H*W, C) -> feature map (N, C, H, W)."""
    # Not transposed: torch would not see channels last in the strides of a batch of one.
    return tokens.view(tokens.shape[0], *size, tokens.shape[2]).permute(0, 3, 1, 2)


def to_tokens(image: Tensor) -> Tensor:
    """Feature map (N, C, H, W) -> tokens (N, H*W, C)."""
    return image.flatten(2).transpose(1, 2)


class RSTB(nn.Module):
    """Residual Swin Transformer Block: a group of transformer blocks, a convolution, a residual around both."""

    def __init__(self, blocks: Sequence[SwinTransformerBlock], dim: int, resi_connection: str) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(blocks)
        self.conv = residual_conv(dim, resi_connection)

    def forward(self, x: Tensor, size: tuple[int, int], checkpointed: bool = False) -> Tensor:
        deep = self.residual_group(x, size, checkpointed)
        return to_tokens(self.conv(to_image(deep, size), to_image(x, size)))


class PatchEmbed(nn.Module):
    """Feature map to tokens, with an optional LayerNorm (``patch_norm``)."""

    def __init__(self, dim: int, patch_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim) if patch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        tokens = to_tokens(x)
        if self.norm is not None:
            tokens = self.norm.forward(tokens)
        return tokens


def doubling_steps(upscale: int) -> list[int]:
    """How the upsamplers reach a scale: 8 -> [2, 2, 2], 3 -> [3], 1 -> []."""
    return [3] if upscale == 3 else [2] * (upscale.bit_length() - 1)


def shuffle_steps(upscale: int) -> Iterator[nn.Module]:
    """Convolution and PixelShuffle for each step of the ``pixelshuffle`` upsampler."""
    for step in doubling_steps(upscale):
        yield Conv3x3(UPSAMPLER_WIDTH, step * step * UPSAMPLER_WIDTH)
        yield nn.PixelShuffle(step)


class SwinIR(ImageNetwork):
    """SwinIR for super-resolution, denoising and JPEG artefact reduction.

    The defaults are the classical super-resolution network that serves as teacher (11,900,199 parameters at x4).

    Args:
        upscale: 1, 2, 3, 4 or 8.
        in_chans: 1 (gray) or 3 (RGB) channels, of the input and of the output.
        img_size: side of the LR patches the network was designed for. It sets the size of the ``ape`` table, and a
            network not larger than its window does not shift its windows, as in the official implementation.
        window_size: side of the attention windows in pixels.
        img_range: factor on the mean-free image before the network (1 or 255).
        depths: number of Swin Transformer blocks in each RSTB.
        embed_dim: width, a multiple of every entry of ``num_heads``.
        num_heads: attention heads in each RSTB; one number serves for all.
        mlp_ratio: hidden width of the MLPs over ``embed_dim``.
        upsampler: "pixelshuffle" (classical), "pixelshuffledirect" (lightweight), "nearest+conv" (real-world),
            "" (no upsampling: denoising, JPEG; needs ``upscale=1``).
        resi_connection: "1conv" or "3conv".
        qkv_bias, patch_norm, ape: as in Swin Transformer. With ``ape``, inputs of another size than ``img_size``
            use the bicubically resized position table.
        drop_path_rate: stochastic depth rate of the last block; rises linearly from 0 at the first.

    Raises:
        ValueError: arguments that do not fit together; the message names them.
    """

    block = SwinTransformerBlock

    fold_upsampler = True
    """Compute the convolutions of the ``pixelshuffle`` upsampler as one, which they are but for rounding: in eval mode
    without gradients, and with gradients where it pays; hooks on them are not called then. False computes them one by
    one."""

    activation_checkpointing = False
    """In training mode compute the transformer blocks once more in the backward pass instead of keeping what they
    computed, with the same result to the bit: each block by itself, with the native kernels those of an RSTB
    together. Traced and compiled graphs do not hold it."""

    def __init__(
        self,
        *,
        upscale: int = 4,
        in_chans: int = 3,
        img_size: int = 64,
        window_size: int = 8,
        img_range: float = 1.0,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        embed_dim: int = 180,
        num_heads: int | Sequence[int] = 6,
        mlp_ratio: float = 2.0,
        upsampler: Upsampler = "pixelshuffle",
        resi_connection: Literal["1conv", "3conv"] = "1conv",
        qkv_bias: bool = True,
        patch_norm: bool = True,
        ape: bool = False,
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "upscale": upscale,
            "in_chans": in_chans,
            "img_size": img_size,
            "window_size": window_size,
            "img_range": img_range,
            "depths": tuple(depths),
            "embed_dim": embed_dim,
            "num_heads": (num_heads,) * len(depths) if isinstance(num_heads, int) else tuple(num_heads),
            "mlp_ratio": mlp_ratio,
            "upsampler": upsampler,
            "resi_connection": resi_connection,
            "qkv_bias": qkv_bias,
            "patch_norm": patch_norm,
            "ape": ape,
            "drop_path_rate": drop_path_rate,
        }
        check_config(self.config)
        self.upscale = upscale
        self.in_chans = cast("Literal[1, 3]", in_chans)
        self.img_range = img_range
        self.upsampler = upsampler
        self.window_size = window_size
        # The official network gives up shifting, and shrinks the window, where one window covers its img_size.
        block_window = min(window_size, img_size)
        self.shift_size = block_window // 2 if img_size > window_size else 0
        self.block_window = block_window
        mean = RGB_MEAN if in_chans == 3 else (0.0,) * in_chans
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)

        self.conv_first = Conv3x3(in_chans, embed_dim)
        self.patch_embed = PatchEmbed(embed_dim, patch_norm)
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, img_size**2, embed_dim)) if ape else None
        self.layers = self._build_layers()
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = residual_conv(embed_dim, resi_connection)
        self._build_upsampler(embed_dim, in_chans)
        self._init_weights()

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """The width of each RSTB's tokens."""
        return (self.config["embed_dim"],) * len(self.config["depths"])

    def token_grid(self, side: int) -> int:
        """Side of the square token map of an image of ``side`` x ``side`` pixels, which is padded to whole windows."""
        for window in (self.window_size, self.block_window):
            side += -side % window
        return side

    def _build_layers(self) -> nn.ModuleList:
        config = self.config
        last_block = max(sum(config["depths"]) - 1, 1)
        rates = [config["drop_path_rate"] * i / last_block for i in range(sum(config["depths"]))]
        layers = nn.ModuleList()
        for depth, heads in zip(config["depths"], config["num_heads"], strict=True):
            blocks = [
                self.block(
                    dim=config["embed_dim"],
                    num_heads=heads,
                    window_size=self.block_window,
                    shift_size=self.shift_size if i % 2 else 0,
                    mlp_ratio=config["mlp_ratio"],
                    qkv_bias=config["qkv_bias"],
                    drop_path=rates.pop(0),
                )
                for i in range(depth)
            ]
            layers.append(RSTB(blocks, config["embed_dim"], config["resi_connection"]))
        return layers

    def _build_upsampler(self, dim: int, out_chans: int) -> None:
        width = UPSAMPLER_WIDTH

        if self.upsampler == "":
            self.conv_last = Conv3x3(dim, out_chans)
            return
        if self.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(Conv3x3(dim, self.upscale**2 * out_chans), nn.PixelShuffle(self.upscale))
            return
        self.conv_before_upsample = nn.Sequential(Conv3x3(dim, width), nn.LeakyReLU())
        if self.upsampler == "pixelshuffle":
            self.upsample = nn.Sequential(*shuffle_steps(self.upscale))
        else:
            for i, _ in enumerate(doubling_steps(self.upscale), start=1):
                self.add_module(f"conv_up{i}", Conv3x3(width, width))
            self.conv_hr = Conv3x3(width, width)
        self.conv_last = Conv3x3(width, out_chans)
        self.folded_upsampler = FoldedUpsampler(doubling_steps(self.upscale))

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                zero_bias(module)
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    if TYPE_CHECKING:  # nn.Module.__call__ is untyped

        @overload
        def __call__(self, x: Tensor, return_features: Literal[False] = False) -> Tensor: ...
        @overload
        def __call__(self, x: Tensor, return_features: Literal[True]) -> tuple[Tensor, list[Tensor]]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Restore a batch of images.

        Args:
            x: (N, in_chans, h, w) in [0, 1], any size from 1x1.
            return_features: also return the tokens that leave each RSTB.

        Returns:
            The image (N, in_chans, h*upscale, w*upscale), not clamped; with ``return_features`` a pair of it and a
            list of token maps (N, H*W, embed_dim), where H and W are h and w padded to a multiple of the window.
        """
        h, w = x.shape[-2:]
        # Fine for the official networks, where the block window is the window; the step keeps smaller ones whole.
        x = reflect_to_multiple(reflect_to_multiple(x, self.window_size), self.block_window)
        mean = self.get_buffer("mean").to(x.dtype)
        x = (x - mean) * self.img_range
        # Channels last, the tokens' own order: no copies between blocks and convolutions, and faster convolutions. In
        # float32 under autocast too: what is added up through the network keeps its digits.
        shallow = self.conv_first(x.contiguous(memory_format=torch.channels_last)).to(x.dtype)
        body, features = self._body(shallow)
        deep = self.conv_after_body(body, shallow)
        out = x + self.conv_last(deep) if self.upsampler == "" else self._upsample(deep)
        out = out / self.img_range + mean
        image = out[..., : h * self.upscale, : w * self.upscale]
        return (image, features) if return_features else image

    def _body(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        size = (x.shape[2], x.shape[3])
        x = self.patch_embed(x)
        if self.absolute_pos_embed is not None:
            x = x + self._position_table(size)
        features: list[Tensor] = []
        for layer in self.layers:
            x = layer(x, size, self.activation_checkpointing)
            features.append(x)
        return to_image(self.norm(x), size), features

    def _position_table(self, size: tuple[int, int]) -> Tensor:
        assert self.absolute_pos_embed is not None
        side = self.config["img_size"]
        if size == (side, side):
            return self.absolute_pos_embed
        table = to_image(self.absolute_pos_embed, (side, side))
        return to_tokens(F.interpolate(table, size, mode="bicubic", align_corners=False))

    def _upsample(self, x: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(x)
        x = self.conv_before_upsample(x)
        if self.upsampler == "pixelshuffle":
            folded = self.folded_upsampler
            if self.fold_upsampler and folded.serves(x, self.training):
                return folded(x, self.upsample, self.conv_last)
            return self.conv_last(self.upsample(x))
        for i, step in enumerate(doubling_steps(self.upscale), start=1):
            x = self.get_submodule(f"conv_up{i}")(F.interpolate(x, scale_factor=step, mode="nearest"))
            x = F.leaky_relu(x, 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))

    @property
    def bytes_per_pixel(self) -> int:
        """Memory that restoring takes for each LR pixel, by the torch path on the CPU; the native kernels take less.

        Measured at 192 to 384 pixels a side, rounded up (benchmarks/inference_memory.py).
        """
        dim, heads = self.config["embed_dim"], max(self.config["num_heads"])
        body = 24 * dim + 4 * heads * self.block_window**2
        if self.upsampler == "nearest+conv":
            tail = 5 * UPSAMPLER_WIDTH * self.upscale**2
        else:
            tail = 4 * UPSAMPLER_WIDTH + 8 * self.in_chans * self.upscale**2
        return 4 * max(body, tail)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch; the official derived buffers are accepted, whatever image size they were made for."""
        return super().load_state_dict(without_derived_buffers(state_dict), strict=strict, assign=assign)

    def official_state_dict(self, img_size: int | None = None) -> dict[str, Tensor]:
        """The parameters with the buffers that the official implementation expects, for its strict loading.

        ``attn_mask`` is made for ``img_size``, by default the network's, as there.
        """
        state: dict[str, Tensor] = {key: value.detach() for key, value in self.state_dict().items()}
        index = relative_position_index(self.block_window)
        padded: int = img_size or self.config["img_size"]
        padded += -padded % self.block_window
        mask = shifted_window_mask(padded, padded, self.block_window, self.block_window // 2)
        for i, depth in enumerate(self.config["depths"]):
            for j in range(depth):
                block = f"layers.{i}.residual_group.blocks.{j}"
                state[f"{block}.attn.relative_position_index"] = index
                if self.shift_size and j % 2:
                    state[f"{block}.attn_mask"] = mask
        return state


def zero_bias(layer: nn.Linear | nn.Conv2d) -> None:
    """Zero the bias of a layer that has one."""
    if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]  (torch annotates it as never None)
        nn.init.zeros_(layer.bias)


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse arguments that do not fit together.

    Raises:
        ValueError: with every fault found, each naming its argument.
    """
    depths, heads, dim = config["depths"], config["num_heads"], config["embed_dim"]
    faults: list[str] = []
    if config["upscale"] not in (1, 2, 3, 4, 8):
        faults.append(f"upscale: {config['upscale']} is not one of 1, 2, 3, 4, 8")
    if config["in_chans"] not in (1, 3):
        faults.append(f"in_chans: {config['in_chans']} is neither 1 (gray) nor 3 (RGB)")
    if config["upsampler"] not in ("pixelshuffle", "pixelshuffledirect", "nearest+conv", ""):
        faults.append(f"upsampler: {config['upsampler']!r} is unknown")
    elif config["upsampler"] == "" and config["upscale"] != 1:
        faults.append(f"upsampler: '' does not enlarge, but upscale is {config['upscale']}")
    if config["resi_connection"] not in ("1conv", "3conv"):
        faults.append(f"resi_connection: {config['resi_connection']!r} is neither '1conv' nor '3conv'")
    elif config["resi_connection"] == "3conv" and dim < 4:
        faults.append(f"embed_dim: {dim} is too narrow for resi_connection '3conv' (at least 4)")
    faults += [f"{key}: {config[key]} is not positive" for key in _LIMITS if not config[key] > 0]  # or no number
    faults += [f"{key}: {config[key]} is more than {limit}" for key, limit in _LIMITS.items() if config[key] > limit]
    if sum(depths) > _MAX_BLOCKS:
        faults.append(f"depths: {sum(depths)} blocks are more than {_MAX_BLOCKS}")
    if not depths or min(depths) < 1:
        faults.append(f"depths: {_shown(depths)} needs at least one RSTB and one block in each")
    if len(depths) != len(heads):
        faults.append(f"num_heads: {len(heads)} entries for {len(depths)} entries of depths")
    if any(head < 1 or dim % head for head in heads):
        faults.append(f"embed_dim: {dim} is not a multiple of every entry of num_heads {_shown(heads)}")
    if 0 < config["mlp_ratio"] < 1 and int(dim * config["mlp_ratio"]) < 1:
        faults.append(f"mlp_ratio: {config['mlp_ratio']} leaves no hidden width")
    if not 0 <= config["drop_path_rate"] < 1:
        faults.append(f"drop_path_rate: {config['drop_path_rate']} is not in [0, 1)")
    if not faults:
        values = _values(config)
        largest = max(values, key=values.__getitem__)
        if (total := sum(values.values())) > MAX_VALUES:
            faults.append(f"{largest}: {config[largest]} makes a network of {total:,} values, more than {MAX_VALUES:,}")
    if faults:
        raise ValueError("; ".join(faults))


def _shown(values: Sequence[int]) -> str:
    text = str(list(values))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _values(config: Mapping[str, Any]) -> dict[str, int]:
    """About how many weights and buffered values a network has, by the argument that makes them many."""
    depths, dim, window, img_size = config["depths"], config["embed_dim"], config["window_size"], config["img_size"]
    of_block = 4 * dim**2 + 2 * dim * int(dim * config["mlp_ratio"])
    tables = sum(depth * heads for depth, heads in zip(depths, config["num_heads"], strict=True)) * (2 * window) ** 2
    return {
        "embed_dim": sum(depths) * of_block + (len(depths) + 1) * 9 * dim**2,
        "window_size": tables + 2 * sum(depths) * window**4,  # whole numbers of 8 bytes
        "img_size": (img_size + window) ** 2 * (window**2 + dim * config["ape"]),
    }
