"""Weights in the order in which a kernel reads them, kept from one inference to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from swinlet.kernels.library import Library


class PackedCache:
    """The packed weights of one block or convolution: renewed when any value of its parameters has changed."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._packed: Tensor | None = None

    def __deepcopy__(self, _: object) -> PackedCache:
        return PackedCache()

    def __reduce__(self) -> tuple[object, ...]:
        return PackedCache, ()

    def packed(self, native: Library, form: object, parameters: Iterable[Tensor], pack: Callable[[], Tensor]) -> Tensor:
        """What ``pack`` returns for these values of the parameters, this build and this ``form`` of packing."""
        checksum = 0
        for parameter in parameters:
            values = parameter.contiguous()
            checksum = native.checksum(values.data_ptr(), values.numel(), checksum)
        key = (native.level, form, checksum)
        if self._packed is None or key != self._key:
            self._packed, self._key = pack(), key
        return self._packed
