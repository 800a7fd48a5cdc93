"""The architecture of a SwinIR, read off the shapes of its weights."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from swinlet.errors import CheckpointError
from swinlet.models.network_swinir import UPSAMPLER_WIDTH
from swinlet.utils.names import printable
from swinlet.weights import Recorded

_TENSORS_OF_A_BLOCK = 4  # at least; a whole one has 12 or 13, and what is missing is named later

# What weights never tell: how the image is scaled inside, how training regularised.
NOT_IN_WEIGHTS = ("img_range", "drop_path_rate")


class NotSwinIRError(CheckpointError):
    """Raised for weights that have not the names and shapes of a SwinIR's; those of another network, or of none."""


def read_architecture(state: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Keyword arguments of ``SwinIR`` that the weights belong to.

    Args:
        state: official parameter names to tensors, with or without the derived buffers.
        source: file, for messages.

    Returns:
        All arguments but those in ``NOT_IN_WEIGHTS``. ``img_size`` is that of the saved masks or position table,
        else 64 (or two windows). ``upscale`` of "nearest+conv" is 2 where one enlarging convolution is found, which
        serves for x3 as well; ``window_size`` is at most that. See ``disagreements`` and ``completed``.

    Raises:
        NotSwinIRError: these are not the weights of a SwinIR.
    """
    empty = next((name for name, tensor in state.items() if not tensor.numel()), None)
    if empty is not None:
        raise NotSwinIRError(
            f"{source}: these are not the weights of a SwinIR: {printable(empty)[:200]} is empty: "
            f"{tuple(state[empty].shape)}"
        )
    try:
        return _read(state)
    except KeyError as error:
        raise NotSwinIRError(f"{source}: these are not the weights of a SwinIR: there is no {error.args[0]}") from error
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise NotSwinIRError(f"{source}: these are not the weights of a SwinIR: the shapes do not fit") from error


def disagreements(
    state: Mapping[str, Tensor], found: Mapping[str, Any], given: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Where given arguments contradict weights.

    Args:
        state: the weights.
        found: their ``read_architecture``.
        given: arguments of ``SwinIR``, as many as are given.

    Returns:
        (name, given value, found value) of each argument that the weights decide, and decide otherwise.
    """
    if isinstance(heads := given.get("num_heads"), int):
        given = {**given, "num_heads": (heads,) * len(found["depths"])}
    free: set[str] = {*NOT_IN_WEIGHTS}
    # One enlarging convolution serves x2 and x3.
    if found["upsampler"] == "nearest+conv" and {found["upscale"], given.get("upscale")} == {2, 3}:
        free.add("upscale")
    # Another ratio may round to the same hidden width.
    dim = found["embed_dim"]
    if int(dim * given.get("mlp_ratio", found["mlp_ratio"])) == int(dim * found["mlp_ratio"]):
        free.add("mlp_ratio")
    # img_size matters to a position table, and else only to whether windows shift, which buffers alone tell. Where they
    # do not, windows are as small as img_size, and images are padded for larger ones.
    size, window = given.get("img_size", found["img_size"]), given.get("window_size", found["window_size"])
    if min(size, window) == found["window_size"]:
        free.add("window_size")
    shifts_alike = (size > window) == (found["img_size"] > found["window_size"])
    if not found["ape"] and (shifts_alike or not _tells_of_shift(state, max(found["depths"]))):
        free.add("img_size")
    return [(name, value, found[name]) for name, value in given.items() if name not in free and value != found[name]]


def completed(state: Mapping[str, Tensor], found: dict[str, Any], recorded: Recorded) -> dict[str, Any]:
    """The ``read_architecture`` of weights with what is recorded, unless that belongs to other weights."""
    names = ("upscale", "img_size", "window_size")
    given = {name: value for name in names if (value := getattr(recorded, name)) is not None}
    return found if disagreements(state, found, given) else found | given


def _read(state: Mapping[str, Tensor]) -> dict[str, Any]:
    dim, in_chans = state["conv_first.weight"].shape[:2]
    depths = _depths(state)
    first = "layers.0.residual_group.blocks.0"
    heads = [
        state[f"layers.{i}.residual_group.blocks.0.attn.relative_position_bias_table"].shape[1]
        for i in range(len(depths))
    ]
    rows = state[f"{first}.attn.relative_position_bias_table"].shape[0]
    window = (math.isqrt(rows) + 1) // 2
    upsampler, upscale = _upsampler(state, in_chans)
    if upscale < 1:
        raise ValueError("too few channels to enlarge")
    return {
        "upscale": upscale,
        "in_chans": in_chans,
        "img_size": _img_size(state, window, depths),
        "window_size": window,
        "depths": tuple(depths),
        "embed_dim": dim,
        "num_heads": tuple(heads),
        "mlp_ratio": _ratio(state[f"{first}.mlp.fc1.weight"].shape[0], dim),
        "upsampler": upsampler,
        "resi_connection": "1conv" if "conv_after_body.weight" in state else "3conv",
        "qkv_bias": f"{first}.attn.qkv.bias" in state,
        "patch_norm": "patch_embed.norm.weight" in state,
        "ape": "absolute_pos_embed" in state,
    }


def _depths(state: Mapping[str, Tensor]) -> list[int]:
    blocks: dict[int, set[int]] = {}
    for name in state:
        match = re.match(r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\.", name)
        if match:
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    for i in range(len(blocks)):
        for j in range(len(blocks.get(i, ()))):
            if j not in blocks[i]:
                raise KeyError(f"layers.{i}.residual_group.blocks.{j}")
    if not blocks or max(blocks) >= len(blocks):
        raise KeyError(f"layers.{next(i for i in range(len(blocks) + 1) if i not in blocks)}.residual_group.blocks.0")
    depths = [len(blocks[i]) for i in range(len(blocks))]
    if sum(depths) > len(state) // _TENSORS_OF_A_BLOCK:
        raise ValueError("blocks in name only")
    return depths


def _ratio(hidden: int, dim: int) -> float:
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else (hidden + 0.5) / dim  # division may round down


def _img_size(state: Mapping[str, Tensor], window: int, depths: list[int]) -> int:
    if "absolute_pos_embed" in state:
        return math.isqrt(state["absolute_pos_embed"].shape[1])
    masks = [tensor for name, tensor in state.items() if name.endswith("attn_mask")]
    if masks:
        return math.isqrt(masks[0].shape[0]) * window
    if _tells_of_shift(state, max(depths)):
        return window  # saved with its buffers, but without masks: the network does not shift its windows
    return max(64, 2 * window)


def _tells_of_shift(state: Mapping[str, Tensor], depth: int) -> bool:
    """Whether the derived buffers were saved, and with them a mask for each shifted block (every second one)."""
    return depth > 1 and any(name.endswith("relative_position_index") for name in state)


def _upsampler(state: Mapping[str, Tensor], in_chans: int) -> tuple[str, int]:
    if "conv_before_upsample.0.weight" not in state:
        if "upsample.0.weight" in state:
            return "pixelshuffledirect", math.isqrt(state["upsample.0.weight"].shape[0] // in_chans)
        return "", 1
    if "conv_hr.weight" in state:
        return "nearest+conv", 2 ** sum(f"conv_up{i}.weight" in state for i in (1, 2, 3))
    steps = [tensor.shape[0] // UPSAMPLER_WIDTH for name, tensor in state.items() if _is_shuffle_conv(name)]
    return "pixelshuffle", math.isqrt(math.prod(steps))


def _is_shuffle_conv(name: str) -> bool:
    return re.fullmatch(r"upsample\.\d+\.weight", name) is not None
