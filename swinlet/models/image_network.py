"""What every network that restores images has in common, this project's own and others'."""

from typing import Literal, Protocol, get_args

from torch import nn

from swinlet.options import Precision


class Featured(Protocol):
    """What features are learnt from: a network, or what is stored of one."""

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """Channels of each of its token maps."""
        ...


class ImageNetwork(nn.Module):
    """A network that restores images: (N, in_chans, h, w) in [0, 1] -> (N, in_chans, h * upscale, w * upscale).

    Attributes:
        upscale: the scale.
        in_chans: 1 for gray, 3 for RGB images.
        feature_widths: channels of each token map (N, tokens, width) that ``network(x, return_features=True)`` returns
            with the image; (): it returns none.
        precisions: those that it computes in.
        window_size: side of its windows in LR pixels, at whose multiples tiles begin; 1: none.
        bytes_per_pixel: memory that restoring takes for each LR pixel, at most.
    """

    upscale: int
    in_chans: Literal[1, 3]
    precisions: tuple[Precision, ...] = get_args(Precision)
    window_size: int = 1

    @property
    def bytes_per_pixel(self) -> int:
        """See above."""
        raise NotImplementedError

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """See above; of a network without features."""
        return ()

    @property
    def kind(self) -> str:
        """Name of the architecture, for people."""
        return type(self).__name__
