"""The eight flips and rotations of swinlet.data.augment."""

import numpy as np
import pytest

from swinlet.data.augment import MODES, augment

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def test_eight_different_results() -> None:
    square = IMAGE[:, :4]
    assert len({augment(square, mode).tobytes() for mode in range(MODES)}) == MODES == 8
    np.testing.assert_array_equal(augment(square, 0), square)


@pytest.mark.parametrize("mode", range(MODES))
def test_results_are_views(mode: int) -> None:
    turned = augment(IMAGE, mode)
    assert turned.shape == ((6, 4, 3) if mode % 2 else (4, 6, 3))
    assert turned.base is not None, "a view, not a copy"


def test_directions() -> None:
    image = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(augment(image, 1), [[2, 4], [1, 3]])
    np.testing.assert_array_equal(augment(image, 4), [[2, 1], [4, 3]])
    np.testing.assert_array_equal(augment(image, 5), [[4, 2], [3, 1]])


@pytest.mark.parametrize("mode", [-1, 8])
def test_unknown_modes_are_refused(mode: int) -> None:
    with pytest.raises(ValueError, match=f"0 to 7, not {mode}"):
        augment(IMAGE, mode)
