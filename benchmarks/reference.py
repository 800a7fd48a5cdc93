"""The official network and a training step around it in the style of KAIR, for comparison.

Nothing of the official code is in this repository: its file is given by the user. The step follows a description of
KAIR's: eager fp32, losses read back as they arise, ``torch.optim.Adam`` as it comes, the moving average by a loop.
"""

import copy
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.check import require_same
from benchmarks.measure import Call
from benchmarks.workloads import Workload
from swinlet.errors import OptionError
from swinlet.models.network_swinir import SwinIR
from swinlet.models.transformer import DropPath

DECAY = 0.999


def load_reference(path: str) -> type[nn.Module]:
    """The class ``SwinIR`` of the official network_swinir.py; without timm, three small stand-ins take its place.

    Raises:
        OptionError: the file is missing, cannot be run, or holds no SwinIR.
    """
    what = f"--reference {path}"
    if not Path(path).is_file():
        raise OptionError(f"{what}: there is no such file: give the official network_swinir.py")
    spec = importlib.util.spec_from_file_location("reference_network_swinir", path)
    if spec is None or spec.loader is None:
        raise OptionError(f"{what}: this is no Python file: give the official network_swinir.py")
    module = importlib.util.module_from_spec(spec)
    try:
        with _timm():
            spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file does
        raise OptionError(f"{what} cannot be run: {type(error).__name__}: {error}") from error
    found = getattr(module, "SwinIR", None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise OptionError(f"{what} defines no network SwinIR: give the official network_swinir.py")
    return found


def reference_network(path: str, ours: SwinIR) -> nn.Module:
    """The reference with our weights, in training mode; a picture has shown that it computes the same.

    Args:
        ours: on the CPU.

    Raises:
        OptionError: it takes other arguments or other weights, or its picture differs.
    """
    what = f"--reference {path}: its SwinIR"
    kind = load_reference(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what newer versions of torch say to older code
            network = kind(**ours.config)
        network.load_state_dict(ours.official_state_dict(), strict=True)
        if missing := [name for name in ("embed_dim", "layers") if not hasattr(network, name)]:
            raise AttributeError(f"it has no {' and no '.join(missing)}")
        require_same(_picture(network), _picture(ours), "fp32")
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[:2])
        raise OptionError(f"{what} is not the official one: {reason}") from error
    return network


def forward_call(path: str, workload: Workload, device: torch.device) -> Call:
    """A forward pass without gradients."""
    network = reference_network(path, workload.network()).to(device).eval()
    image = workload.images().to(device)

    def call() -> Tensor:
        with torch.no_grad():
            return network(image)

    return call


def step_call(path: str, workload: Workload, device: torch.device) -> Call:
    """A feature-distillation step."""
    student, teacher = (reference_network(path, workload.network(name)) for name in ("student", "teacher"))
    step = ReferenceStep(student.to(device), teacher.to(device))
    L, H = workload.images().to(device), workload.images(scale=4).to(device)
    return lambda: step(L, H)


class ReferenceStep:
    """Student, teacher, translator, optimiser and moving average: call it with a batch."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        device = next(student.parameters()).device
        self.student = student.train()
        self.teacher = teacher.eval().requires_grad_(False)
        self.average = copy.deepcopy(student).eval().requires_grad_(False)
        self.features: dict[nn.Module, list[Tensor]] = {student: [], teacher: []}
        for network in (student, teacher):
            for layer in network.layers:
                layer.register_forward_hook(self._keeper(network))
        widths: tuple[int, int] = (teacher.embed_dim, student.embed_dim)
        self.translator = nn.ModuleList(nn.Linear(*widths) for _ in student.layers).to(device)
        trained = [*student.parameters(), *self.translator.parameters()]
        self.optimizer = torch.optim.Adam(trained, lr=2e-4, betas=(0.9, 0.999))
        self.log: dict[str, float] = {}

    def _keeper(self, network: nn.Module) -> Any:
        return lambda layer, inputs, output: self.features[network].append(output)

    def __call__(self, L: Tensor, H: Tensor) -> None:
        """One update from L (N, 3, h, w) and H (N, 3, 4h, 4w), float in [0, 1]."""
        for kept in self.features.values():
            kept.clear()
        self.optimizer.zero_grad()
        E = self.student(L)
        total = F.l1_loss(E, H)
        self.log["pixel"] = total.item()
        with torch.no_grad():
            target = self.teacher(L)
        distill = F.l1_loss(E, target)
        self.log["distill"] = distill.item()
        feature = torch.zeros((), device=L.device)
        pairs = zip(self.translator, self.features[self.student], self.features[self.teacher], strict=False)
        for linear, own, taught in pairs:
            feature = feature + 0.01 * F.l1_loss(own, linear(taught))
        self.log["feature"] = feature.item()
        total = total + distill + feature
        total.backward()
        self.optimizer.step()
        self.log["total"] = total.item()
        averages = dict(self.average.named_parameters())
        for name, parameter in self.student.named_parameters():
            averages[name].data.mul_(DECAY).add_(parameter.data, alpha=1 - DECAY)


def _picture(network: nn.Module) -> Tensor:
    """What it makes of a small image, in fp32 on the CPU; the sides are no multiple of a window."""
    image = torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    training = network.training
    with torch.no_grad():
        picture = network.eval()(image)
    network.train(training)
    return picture


@contextmanager
def _timm() -> Iterator[None]:
    """Offer the three names that the official file takes from timm, where timm is not installed."""
    names = ("timm", "timm.models", "timm.models.layers")
    if importlib.util.find_spec("timm") is not None:
        yield
        return
    modules = {name: types.ModuleType(name) for name in names}
    layers: Any = modules["timm.models.layers"]
    layers.DropPath, layers.trunc_normal_, layers.to_2tuple = DropPath, nn.init.trunc_normal_, _pair
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _pair(value: Any) -> tuple[Any, Any]:
    return value if isinstance(value, tuple) else (value, value)
