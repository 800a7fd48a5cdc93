"""The folded upsampler: image and gradients of the layers one by one, and the layers wherever it cannot serve."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import swinlet
from swinlet import kernels
from swinlet.models import upsampler_fold
from swinlet.models.network_swinir import SwinIR, doubling_steps, shuffle_steps
from swinlet.models.upsampler_fold import FoldedUpsampler
from tests.small_run import NET

pytestmark = pytest.mark.usefixtures("path")


class Upsampler(nn.Module):
    """The upsampler alone."""

    def __init__(self, scale: int, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.upsample = nn.Sequential(*shuffle_steps(scale))
        self.conv_last = nn.Conv2d(64, channels, 3, padding=1)
        self.folded = FoldedUpsampler(doubling_steps(scale))
        self.to(dtype)

    def forward(self, x: Tensor, fold: bool = True) -> Tensor:
        return self.folded(x, self.upsample, self.conv_last) if fold else self.conv_last(self.upsample(x))


def network(**config: Any) -> SwinIR:
    torch.manual_seed(0)
    return swinlet.define_G({"net_type": "swinir_student", "upsampler": "pixelshuffle", "upscale": 4, **NET, **config})


def gradients(net: nn.Module, image: Tensor, x: Tensor) -> list[Tensor]:
    weight = torch.linspace(-1, 1, image.numel()).view_as(image).to(image).cos()
    return list(torch.autograd.grad((image * weight).sum(), [x, *net.parameters()]))


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


def outcome(net: SwinIR, x: Tensor, fold: bool = True) -> list[Tensor]:
    """Image and gradients."""
    net.fold_upsampler = fold
    torch.manual_seed(1)  # of drop-path
    image = net(x)
    return [image.detach(), *gradients(net, image, x)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(2, 9, 13), (1, 8, 8), (3, 4, 3)])
def test_image_and_gradients_are_those_of_the_layers(scale: int, channels: int, size: tuple[int, int, int]) -> None:
    net = Upsampler(scale, channels, torch.float64)
    n, h, w = size
    x = torch.randn(n, 64, h, w, dtype=torch.float64, requires_grad=True)
    expected = net(x, fold=False)
    image = net(x)
    assert_near([image, *gradients(net, image, x)], [expected, *gradients(net, expected, x)], 1e-12)
    with torch.no_grad():
        assert_near([net(x)], [expected], 1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_in_float32(scale: int) -> None:
    net = Upsampler(scale, 3, torch.float32)
    x = torch.randn(2, 64, 17, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = net(x, fold=False)
    image = net(x)
    assert_near([image, *gradients(net, image, x)], [expected, *gradients(net, expected, x)], 1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_network_without_gradients(scale: int) -> None:
    net = network(upscale=scale).eval()
    x = torch.rand(2, 3, 9, 13)
    with torch.no_grad():
        folded = net(x)
        net.fold_upsampler = False
        layered = net(x)
    assert not torch.equal(folded, layered)
    torch.testing.assert_close(folded, layered, atol=1e-5 * float(layered.abs().max()), rtol=0)


def test_network_in_training() -> None:
    net = network()
    x = torch.rand(4, 3, 16, 16, requires_grad=True)
    folded, layered = outcome(net, x), outcome(net, x, fold=False)
    assert not torch.equal(folded[0], layered[0])
    assert_near(folded, layered, 1e-5)
    assert all(torch.equal(ours, again) for ours, again in zip(folded, outcome(net, x), strict=True))


def test_under_autocast() -> None:
    net = Upsampler(4, 3, torch.float32)
    x = torch.randn(2, 64, 17, 16).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        image, expected = net(x), net(x, fold=False)
    assert not torch.equal(image, expected)
    assert_near([image, *gradients(net, image, x)], [expected, *gradients(net, expected, x)], 0.02)


def test_where_it_serves() -> None:
    folded = FoldedUpsampler([2, 2])
    pays, small, narrow = (torch.empty(n, 64, h, w) for n, h, w in [(4, 16, 16), (3, 16, 16), (64, 4, 16)])
    assert folded.serves(pays, training=True)
    assert folded.serves(pays, training=False)
    assert not folded.serves(small, training=True)
    assert not folded.serves(narrow, training=True)
    assert not folded.serves(pays.to("meta"), training=True)
    assert not FoldedUpsampler([]).serves(pays, training=True)
    with torch.no_grad():
        assert folded.serves(small, training=False)
        assert not folded.serves(pays, training=True)


def test_changed_weights_are_noticed() -> None:
    net = Upsampler(4, 3, torch.float32)
    x = torch.randn(1, 64, 8, 8)
    with torch.no_grad():
        net(x)
        for parameter in net.parameters():
            parameter.data.mul_(1.25)  # leaves no trace in the tensor's version
        assert_near([net(x)], [net(x, fold=False)], 1e-5)


def test_what_inference_leaves_does_not_disturb_training() -> None:
    upsampler_fold._matrices.cache_clear()
    net = Upsampler(4, 3, torch.float32)
    x = torch.randn(1, 64, 8, 8)
    with torch.inference_mode():
        net(x)
    net(x).sum().backward()


def test_copies_and_pickles() -> None:
    net = network()
    x = torch.rand(4, 3, 16, 16, requires_grad=True)
    expected = outcome(net, x)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(outcome(twin, x), expected, strict=True))


def test_gradients_of_each_sample_by_torch_func() -> None:
    net = Upsampler(4, 3, torch.float32)
    x = torch.randn(3, 64, 8, 8)
    parameters = dict(net.named_parameters())

    def loss(values: dict[str, Tensor], sample: Tensor, fold: bool) -> Tensor:
        return torch.func.functional_call(net, values, (sample[None], fold)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, None))
    found, expected = each(parameters, x, True), each(parameters, x, False)
    assert_near(list(found.values()), list(expected.values()), 1e-5)


def test_traces_hold_the_layers() -> None:
    net = network()
    x = torch.rand(4, 3, 16, 16)
    with kernels.using("torch"):
        exported = torch.export.export(net, (x,)).module()
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        expected = outcome(net, x.requires_grad_(), fold=False)[0]
        net.fold_upsampler = True
        for trace in (exported, compiled):
            torch.manual_seed(1)
            assert torch.equal(trace(x), expected)


def test_operations_are_counted_as_the_network_is_written() -> None:
    counts: list[int] = []
    with torch.device("meta"):
        for fold in (True, False):
            net = network()
            net.fold_upsampler = fold
            with FlopCounterMode(display=False) as counter:
                net(torch.empty(8, 3, 32, 32)).sum().backward()
            counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]
