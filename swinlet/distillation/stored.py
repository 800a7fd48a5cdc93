"""A teacher whose features are stored: what the student has to know of it, without its network."""

from dataclasses import dataclass
from math import lcm

from swinlet.data.taught import chosen_features, read_taught
from swinlet.errors import DataError, OptionError
from swinlet.models.network_swinir import SwinIR
from swinlet.options import Options

_OPTION = "datasets.train"


@dataclass(frozen=True)
class StoredFeatures:
    """Features of ``datasets.train.dataroot_T``, which are the teacher's stages.

    Attributes:
        feature_widths: their channels.
    """

    feature_widths: tuple[int, ...]


def stored_features(opt: Options, student: SwinIR) -> StoredFeatures | None:
    """Those that a run reads; None: it reads none.

    Raises:
        DataError: the folder has none, or not those of ``train.feature_taps``.
        OptionError: the student pads the patches, so that its token maps are larger than those stored.
    """
    train = opt.datasets.train
    if not opt.features_are_stored or train is None or train.dataroot_T is None:
        return None
    side = train.H_size // opt.scale
    if student.token_grid(side) != side:
        window = lcm(student.window_size, student.block_window)
        below = train.H_size // opt.scale // window * window * opt.scale
        sizes = " or ".join(str(size) for size in (below, below + window * opt.scale) if size)
        raise OptionError(
            f"{_OPTION}.H_size: {train.H_size} makes LR patches of {side}x{side} pixels, which the student pads to "
            f"whole windows of {window}, but features are stored for pixels alone: use {sizes}"
        )
    try:
        index = read_taught(train.dataroot_T)
    except DataError as error:
        raise DataError(f"{_OPTION}.dataroot_T: {error}") from error
    chosen = chosen_features(index, train.dataroot_T, opt.train.feature_taps, _OPTION)
    return StoredFeatures(tuple(index.features[i].width for i in chosen))
