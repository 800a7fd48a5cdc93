"""The native 3x3 convolution against torch's."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinlet import kernels
from swinlet.models.convolution import Conv3x3
from tests.native import needs_native


def exact(conv: Conv3x3, x: torch.Tensor) -> torch.Tensor:
    return copy.deepcopy(conv).double()(x.double())


def error(y: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest, relative to the largest value."""
    return ((y.double() - expected).abs().max() / expected.abs().max()).item()


@settings(max_examples=40, deadline=None)
@given(
    channels=st.tuples(st.integers(16, 70), st.integers(16, 70)),
    size=st.tuples(st.integers(1, 3), st.integers(1, 21), st.integers(1, 21)),
    channels_last=st.booleans(),
)
def test_random_shapes(channels: tuple[int, int], size: tuple[int, int, int], channels_last: bool) -> None:
    needs_native()
    torch.manual_seed(0)
    conv = Conv3x3(*channels)
    x = torch.randn(size[0], channels[0], *size[1:])
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), kernels.using("native"):
        assert kernels.serve_convolution(x, conv.weight, conv.bias)
        y = conv(x)
        assert error(y, exact(conv, x)) < 1e-6
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [(16, 16), (60, 64), (33, 20)])
def test_every_build(level: str, channels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv, x = Conv3x3(*channels), torch.randn(2, channels[0], 13, 18)
    with torch.no_grad():
        y = conv(x)
        assert error(y, exact(conv, x)) < 1e-6
        assert torch.equal(y, conv(x))
        with kernels.using("torch"):
            assert not torch.equal(y, conv(x))  # computed by others


def test_whole_sums_do_not_depend_on_the_number_of_threads() -> None:
    needs_native()
    conv, x = Conv3x3(20, 20), torch.randn(1, 20, 40, 40)
    threads = torch.get_num_threads()
    results = []
    with torch.no_grad(), kernels.using("native"):
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(conv(x))
    torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("channels_last", [False, True])
def test_what_is_added(channels_last: bool) -> None:
    needs_native()
    conv, x, plus = Conv3x3(16, 20), torch.randn(2, 16, 5, 9), torch.randn(2, 20, 5, 9)
    if channels_last:
        plus = plus.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for path in ("native", "torch"):
            with kernels.using(path):
                assert error(conv(x, plus), exact(conv, x) + plus) < 1e-6


def test_changed_weights_are_noticed() -> None:
    needs_native()
    conv, x = Conv3x3(16, 16), torch.randn(1, 16, 6, 6)
    with torch.no_grad(), kernels.using("native"):
        before = conv(x)
        assert conv.bias is not None
        conv.bias.data.add_(1)
        torch.testing.assert_close(conv(x), before + 1)
        conv.weight.data.zero_()
        torch.testing.assert_close(conv(x), conv.bias.view(1, -1, 1, 1).expand_as(before))


def test_weights_in_any_order() -> None:
    needs_native()
    conv, x = Conv3x3(16, 24), torch.randn(1, 16, 6, 6)
    conv.weight = torch.nn.Parameter(conv.weight.detach().contiguous(memory_format=torch.channels_last))
    with torch.no_grad(), kernels.using("native"):
        assert error(conv(x), exact(conv, x)) < 1e-6


def test_what_is_left_to_torch() -> None:
    needs_native()

    def served(inputs: int = 16, outputs: int = 16, dtype: torch.dtype = torch.float32, device: str = "cpu") -> bool:
        conv = Conv3x3(inputs, outputs).to(device, dtype)
        assert conv.bias is not None
        x = torch.empty(1, inputs, 4, 4, dtype=dtype, device=device)
        return kernels.serve_convolution(x, conv.weight, conv.bias)

    with kernels.using("native"):
        assert not served()  # gradients are wanted
        with torch.no_grad():
            assert served()
            assert not served(inputs=3)
            assert not served(outputs=3)
            assert not served(dtype=torch.float64)
            assert not served(device="meta")
            with torch.autocast("cpu", torch.bfloat16):
                assert not served()
            with kernels.using("torch"):
                assert not served()


def test_an_image_that_is_not_finite_stays_so() -> None:
    needs_native()
    conv, x = Conv3x3(16, 16), torch.randn(1, 16, 12, 12)
    x[0, 3, 5, 5] = torch.nan
    with torch.no_grad(), kernels.using("native"):
        y = conv(x)
    assert y[..., 4:7, 4:7].isnan().all()
    assert y[..., :2, :2].isfinite().all()
