"""This project's forward pass and training step, in each way in which it can compute."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks import paths
from benchmarks.check import require_same
from benchmarks.measure import Call
from benchmarks.sdpa import folded
from benchmarks.settings import Settings
from benchmarks.workloads import Workload
from swinlet.models.model_plain import ModelPlain
from swinlet.models.select_model import define_Model

GRAPHS = "reduce-overhead"
_TRIAL = 24  # side of the image that tells whether a way is right


@dataclass(frozen=True)
class Way:
    """How this project computes.

    Attributes:
        activate: context of every call.
        compile: mode of ``torch.compile``.
        graph: the forward pass is recorded as a CUDA graph and replayed.
        own: computes with this project's kernels, so that its picture is never the torch path's to the last bit.
        missing: why this way is closed here.
    """

    name: str
    activate: Callable[[], AbstractContextManager[object]] = nullcontext
    compile: str | None = None
    channels_last: bool = False
    graph: bool = False
    own: bool = False
    missing: str | None = None

    @property
    def forward_only(self) -> bool:
        """Whether it is of no use to a training step."""
        return self.graph or self.channels_last

    def closed(self, settings: Settings, workload: Workload) -> str | None:
        """Why it cannot be gone; None: it can."""
        if self.compile and not settings.compile:
            return "left out by --no-compile"
        if self.compile and workload.batch == 1:
            return "compiled, which takes minutes, for batches only"
        if (self.graph or self.compile == GRAPHS) and torch.device(settings.device).type != "cuda":
            return "CUDA graphs need a GPU"
        return self.missing


def ways(settings: Settings) -> list[Way]:
    """All of a line-up, closed ones too."""
    if settings.line_up == "cuda":
        return _CUDA
    native, told = paths.native_path()
    return [
        Way("torch", paths.torch_path()),
        Way("native", native or nullcontext, own=True, missing=None if native else told),
    ]


_CUDA = [
    Way("torch"),
    Way("torch+channels_last", channels_last=True),
    Way("torch+graph", graph=True),
    Way("torch+compile", compile="default"),
    Way("torch+sdpa", folded),
    Way("torch+sdpa+channels_last", folded, channels_last=True),
    Way("torch+sdpa+graph", folded, graph=True),
    Way("torch+sdpa+compile", folded, compile="default"),
    Way("torch+sdpa+compile+graph", folded, compile=GRAPHS),
]


def forward_call(workload: Workload, way: Way, precision: str, device: torch.device) -> Call:
    """A forward pass without gradients, weights and image in fp32.

    Raises:
        RuntimeError: its picture differs from the torch path's, or does not where it must; told from a small image,
            or where it was compiled for the workload's, from that.
    """
    call = _forward(workload, way, precision, device)
    trial = workload if way.compile else replace(workload, side=min(_TRIAL, workload.side), batch=1)
    picture = (call if way.compile else _forward(trial, way, precision, device))()
    expected = _forward(trial, Way("torch", paths.torch_path()), "fp32", device)()
    require_same(picture, expected, precision)
    if way.own and torch.equal(picture, expected):
        raise RuntimeError("its picture is the torch path's to the last bit: the torch path made it")
    return call


def _forward(workload: Workload, way: Way, precision: str, device: torch.device) -> Callable[[], Tensor]:
    network = workload.network().to(device).eval().requires_grad_(False)
    image = workload.images().to(device)
    if way.channels_last:
        network.to(memory_format=torch.channels_last)
        image = image.to(memory_format=torch.channels_last)
    if way.compile:
        network.compile(mode=way.compile)

    def call() -> Tensor:
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        with way.activate(), torch.inference_mode(), autocast:
            return network(image)

    return _graphed(call) if way.graph else call


def step_model(workload: Workload, train: dict[str, Any], device: torch.device) -> ModelPlain:
    """A feature distillation with these ``train`` options, before ``init_train``."""
    options: dict[str, Any] = {
        "gpu_ids": [device.index or 0] if device.type == "cuda" else None,
        "netG": workload.section("student"),
        "netTeacher": workload.section("teacher"),
        "train": {"distillation_type": "feature", **train},
    }
    model = define_Model(options)
    assert model.netTeacher is not None
    model.netG.load_state_dict(workload.network("student").state_dict())
    model.netTeacher.load_state_dict(workload.network("teacher").state_dict())
    return model


def step_call(workload: Workload, way: Way, train: dict[str, Any], device: torch.device) -> Call:
    """A step of ``step_model``."""
    model = step_model(workload, train, device)
    model.init_train()
    batch = {"L": workload.images().to(device), "H": workload.images(scale=4).to(device)}
    if way.compile:
        assert model.netTeacher is not None
        model.netG.compile(mode=way.compile)
        model.netTeacher.compile(mode=way.compile)

    def call() -> None:
        if way.compile == GRAPHS:
            torch.compiler.cudagraph_mark_step_begin()
        with way.activate():
            model.feed_data(batch)
            model.optimize_parameters(1)

    if way.compile:
        call()  # compiled now, not in the first round
    return call


def _graphed(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A replay of what the call does on the GPU, recorded after a few runs on a stream of their own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = call()

    def replay() -> Tensor:
        graph.replay()
        return answer

    return replay
