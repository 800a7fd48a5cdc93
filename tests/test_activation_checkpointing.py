"""Keeping less for the backward pass changes nothing but memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

import swinlet
from swinlet.models.model_plain import ModelPlain
from swinlet.models.network_swinir import SwinIR
from swinlet.models.optimizer import moments_of
from swinlet.models.select_network import define_G

pytestmark = pytest.mark.usefixtures("path")

NET: dict[str, Any] = {"embed_dim": 12, "depths": [3, 2], "num_heads": [2, 2], "window_size": 4, "img_size": 16}
TEACHER = NET | {"net_type": "swinir", "embed_dim": 24, "depths": [1, 1]}


def trained(checkpointed: bool, net_type: str, **train: Any) -> ModelPlain:
    """After three steps, in which drop-path leaves blocks out."""
    model = swinlet.define_Model(
        {
            "gpu_ids": None,
            "netG": NET | {"net_type": net_type, "drop_path_rate": 0.1},
            "netTeacher": TEACHER,
            "train": {"distillation_type": "feature", "activation_checkpointing": checkpointed, **train},
        }
    )
    model.init_train()
    torch.manual_seed(0)
    for step in range(1, 4):
        # More than 1024 pixels: the upsampler is folded on the CPU.
        model.feed_data({"L": torch.rand(5, 3, 16, 16), "H": torch.rand(5, 3, 64, 64)})
        model.optimize_parameters(step)
    return model


def tensors(model: ModelPlain) -> Iterator[tuple[str, Tensor]]:
    for label in ("netG", "netE", "netP"):
        network: nn.Module = getattr(model, label)
        yield from ((f"{label}.{name}", weight) for name, weight in network.named_parameters())
    yield from moments_of(model._optimizer).items()


@pytest.mark.parametrize("net_type", ["swinir_student", "swinir_student_v2"])
@pytest.mark.parametrize("train", [{}, {"precision": "bf16"}, {"G_optimizer_clipgrad": 0.01}], ids=str)
def test_the_same_training_to_the_bit(net_type: str, train: dict[str, Any]) -> None:
    without = dict(tensors(trained(False, net_type, **train)))
    model = trained(True, net_type, **train)
    assert model.netG.activation_checkpointing
    assert model.netTeacher is not None
    assert not model.netTeacher.activation_checkpointing
    with_it = dict(tensors(model))
    assert with_it.keys() == without.keys()
    assert [name for name, tensor in with_it.items() if not torch.equal(tensor, without[name])] == []


def network(checkpointed: bool) -> SwinIR:
    torch.manual_seed(0)
    made = define_G(NET).train()
    made.activation_checkpointing = checkpointed
    return made


def kept(of: SwinIR, images: int = 4) -> int:
    """Bytes that autograd holds between forward and backward, without the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in of.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        picture, features = of(torch.rand(images, 3, 16, 16), return_features=True)
    assert picture.requires_grad
    assert len(features) == 2
    return sum(storages.values())


def test_less_is_kept(path: str) -> None:
    tokens = 4 * 16 * 16 * NET["embed_dim"] * 4  # bytes of a token map: what is kept of each block, or of each RSTB
    saved = kept(network(False)) - kept(network(True))
    # The native kernels keep the inputs of all five blocks, or of the first in each RSTB; drop-path's factors besides.
    least, most = (3 * tokens, 4 * tokens) if path == "native" else (5 * 10 * tokens, 5 * 40 * tokens)
    assert least <= saved <= most


def test_only_in_training_mode() -> None:
    assert kept(network(True).eval()) == kept(network(False).eval())


def test_exporters_do_not_see_it() -> None:
    """torch 2.14 cannot export it, strictly."""
    torch.export.export(network(True), (torch.rand(1, 3, 16, 16),), strict=True)


def test_in_a_data_parallel_wrapper(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 16, 16)
    expected = network(False)
    torch.manual_seed(1)
    expected(x).square().mean().backward()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rank'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(network(True))
        torch.manual_seed(1)
        wrapped(x).square().mean().backward()
        gradients = {name: weight.grad for name, weight in wrapped.module.named_parameters()}
    finally:
        torch.distributed.destroy_process_group()
    for name, weight in expected.named_parameters():
        assert torch.equal(gradients[name], weight.grad), name
