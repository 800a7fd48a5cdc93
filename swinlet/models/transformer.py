"""Swin Transformer blocks: attention inside windows that every second block shifts (Liu et al., arXiv:2103.14030).

Two ways to compute the same: with torch, as written here, which is the reference, and with the native kernels of
``swinlet.kernels``, which take a block at a time where they can serve.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from swinlet import kernels
from swinlet.kernels import BlockParameters, BlockSpec
from swinlet.utils.tracing import is_traced


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each (query, key) pair of a window: (window**2, window**2), int64."""
    if torch.get_default_device().type == "meta":  # there torch would trace the lines below, and import its compiler
        return torch.empty(window**2, window**2, dtype=torch.int64)
    axis = torch.arange(window)
    position = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
    offset = position[:, :, None] - position[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def shifted_window_mask(h: int, w: int, window: int, shift: int) -> Tensor:
    """Additive mask (windows, window**2, window**2): -100 between pixels that the cyclic shift brought together.

    The official implementation keeps one for each image size; here ``border_masks`` serve all sizes.
    """
    right, bottom = border_masks(window, shift)
    rows, columns = h // window, w // window
    mask = torch.zeros(rows, columns, window**2, window**2)
    mask[:, -1] += right
    mask[-1] += bottom
    return mask.clamp(min=MASKED).view(rows * columns, window**2, window**2)


MASKED = -100.0
"""What is added to the score of two pixels that are no neighbours: exp(-100) is nothing in any precision."""


def border_masks(window: int, shift: int, device: torch.device | None = None) -> Tensor:
    """The masks of windows at the right and at the bottom border of the shifted image: (2, window**2, window**2).

    Only there are pixels side by side that came from opposite borders.
    """
    position = torch.arange(window**2, device=device)
    beyond = torch.stack([position % window, position // window]) >= window - shift
    return (beyond[:, :, None] != beyond[:, None, :]).float() * MASKED


class WindowGrid:
    """How the windows of a feature map lie, and the way of its tokens into window order and back.

    Args:
        size: (H, W) of the map, multiples of ``window``.
        window: side of the windows.
    """

    def __init__(self, size: tuple[int, int], window: int) -> None:
        self.size = size
        self.window = window
        self.rows, self.columns = size[0] // window, size[1] // window

    def gather(self, x: Tensor, shift: int) -> Tensor:
        """(N, H*W, C), row by row -> (N, H*W, C), window by window of the map shifted by ``shift``."""
        n, _, c = x.shape
        return self._partition(self._roll(x.view(n, *self.size, c), -shift))

    def regather(self, x: Tensor, shift: int, new_shift: int) -> Tensor:
        """From the windows of one shift to those of another."""
        return x if shift == new_shift else self._partition(self._roll(self._map(x), shift - new_shift))

    def scatter(self, x: Tensor, shift: int) -> Tensor:
        """The inverse of ``gather``."""
        return self._roll(self._map(x), shift).flatten(1, 2)

    @staticmethod
    def _roll(image: Tensor, shift: int) -> Tensor:
        return image.roll((shift, shift), dims=(1, 2)) if shift else image

    def _partition(self, image: Tensor) -> Tensor:
        n, _, _, c = image.shape
        image = image.view(n, self.rows, self.window, self.columns, self.window, c)
        return image.transpose(2, 3).reshape(n, -1, c)

    def _map(self, windows: Tensor) -> Tensor:
        n, _, c = windows.shape
        windows = windows.view(n, self.rows, self.columns, self.window, self.window, c)
        return windows.transpose(2, 3).reshape(n, *self.size, c)


class DropPath(nn.Module):
    """Drop a residual branch per sample during training (stochastic depth, Huang et al. 2016).

    Attributes:
        part: first sample and size of the batch that the samples belong to, where they are not the whole of it. It is
            drawn for all samples of the batch, so that each gets the same whatever the part it comes in.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.part: tuple[int, int] | None = None

    def factor(self, x: Tensor) -> Tensor | None:
        """(N, 1, ...): 0 where the sample's branch is dropped, else 1 / (1 - drop_prob); None: nothing is dropped."""
        if self.drop_prob == 0.0 or not self.training:
            return None
        keep = 1.0 - self.drop_prob
        first, total = self.part or (0, x.shape[0])
        drawn = x.new_empty((total,) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)
        return drawn[first : first + x.shape[0]]

    def forward(self, x: Tensor) -> Tensor:
        factor = self.factor(x)
        return x if factor is None else x * factor


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window, with a learned bias per relative position."""

    def __init__(self, dim: int, window_size: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.window_size = window_size
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", relative_position_index(window_size), persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, grid: WindowGrid, masks: Tensor | None) -> Tensor:
        """x: (N, H*W, C), window by window; masks: those of the borders, for shifted windows."""
        n, _, c = x.shape
        tokens, heads = self.window_size**2, self.num_heads
        q, k, v = self.qkv(x).view(-1, tokens, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.get_buffer("relative_position_index")].permute(2, 0, 1)
        # In float32 under autocast too: bias, mask and softmax of rounded scores would cost a digit more.
        scores = ((q * self.scale) @ k.transpose(-2, -1)).to(bias.dtype) + bias
        if masks is not None:
            by_place = scores.view(n, grid.rows, grid.columns, heads, tokens, tokens)
            by_place[:, :, -1] += masks[0]
            by_place[:, -1] += masks[1]
            scores = by_place.flatten(0, 2)  # the same memory; exporters do not see a change through another view
        mixed = scores.softmax(dim=-1).to(v.dtype) @ v
        return self.proj(mixed.transpose(1, 2).reshape(n, -1, c))


class SwinTransformerBlock(nn.Module):
    """Window attention and MLP, each with a LayerNorm before and a residual around it."""

    adds_input = False
    """Whether the block's input is added to its output once more."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        shift_size: int,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift_size = shift_size
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window_size, num_heads, qkv_bias)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.packed = kernels.PackedCache()

    def forward(self, x: Tensor, grid: WindowGrid, masks: Tensor | None) -> Tensor:
        """x: (N, H*W, C), window by window of the map shifted by ``shift_size``; masks: ``border_masks``."""
        y = x + self.drop_path(self.attn(self.norm1(x), grid, masks if self.shift_size else None))
        y = y + self.drop_path(self.mlp(self.norm2(y)))
        return y + x if self.adds_input else y

    def parameters_for_kernel(self) -> BlockParameters:
        """The parameters by the names of ``swinlet.kernels``."""
        attn, mlp = self.attn, self.mlp
        return BlockParameters(
            self.norm1.weight,
            self.norm1.bias,
            attn.qkv.weight,
            attn.qkv.bias,
            attn.relative_position_bias_table,
            attn.get_buffer("relative_position_index"),
            attn.proj.weight,
            attn.proj.bias,
            self.norm2.weight,
            self.norm2.bias,
            mlp.fc1.weight,
            mlp.fc1.bias,
            mlp.fc2.weight,
            mlp.fc2.bias,
        )

    @property
    def spec(self) -> BlockSpec:
        """What is fixed in this block."""
        return BlockSpec(self.attn.num_heads, self.window_size, self.shift_size, self.adds_input)


class ResidualGroup(nn.Module):
    """The Swin Transformer blocks of one RSTB."""

    def __init__(self, blocks: Sequence[SwinTransformerBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, size: tuple[int, int], checkpointed: bool = False) -> Tensor:
        """The blocks, one after the other.

        Args:
            x: tokens (N, H*W, C), row by row.
            size: (H, W), multiples of the window.
            checkpointed: keep the inputs of blocks alone for the backward pass (in training mode, with gradients).
        """
        blocks: list[SwinTransformerBlock] = list(self.blocks)  # pyright: ignore[reportAssignmentType]
        checkpointed = checkpointed and self.training and torch.is_grad_enabled() and not is_traced()
        run = _run_checkpointed if checkpointed else _run
        if kernels.serve(x, self.parameters(), blocks[0].window_size):
            return run(self._native, x, size, blocks)  # whole: of each block the kernels keep the input alone anyway
        grid = WindowGrid(size, blocks[0].window_size)
        shifts = [block.shift_size for block in blocks]
        masks = border_masks(grid.window, max(shifts), x.device) if any(shifts) else None
        shift = shifts[0]
        x = grid.gather(x, shift)
        for block in blocks:
            x = grid.regather(x, shift, block.shift_size)
            shift = block.shift_size
            x = run(block, x, grid, masks)
        return grid.scatter(x, shift)

    def _native(self, x: Tensor, size: tuple[int, int], blocks: Sequence[SwinTransformerBlock]) -> Tensor:
        x = x.contiguous()
        if kernels.differentiable(x, self.parameters()) or self.training:
            for block in blocks:
                keeps = block.drop_path.factor(x), block.drop_path.factor(x)
                x = kernels.train(x, size, block.spec, block.parameters_for_kernel(), *keeps)
            return x
        buffer = torch.empty_like(x)
        for block in blocks:
            kernels.infer(x, size, block.spec, block.parameters_for_kernel(), block.packed, buffer)
            x = buffer
        return x


def _run(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return function(*arguments)


def _run_checkpointed(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Activation checkpointing (Chen et al., arXiv:1604.06174): what the function computes is computed once more in the
    backward pass, with the same drop-path and autocast, instead of being kept. The result is the same to the bit."""
    return checkpoint(function, *arguments, use_reentrant=False)
