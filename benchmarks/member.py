"""One process of a team that benchmarks.scaling has started: python -m benchmarks.member WORKLOAD

Does what the lines of its standard input name, and answers each with a line.
"""

import json
import sys
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.machine import start_process
from benchmarks.measure import Call
from benchmarks.workloads import Workload
from swinlet.distillation import restored
from swinlet.models.select_model import define_Model

MESSAGES = 20
"""So many iterations' messages are one call, as those of one are too short to time from outside."""


def tasks(workload: Workload) -> dict[str, Call]:
    """By name: a training step, the teacher's part of it, and what the processes tell each other in 20 steps."""
    options: dict[str, Any] = {
        "gpu_ids": None,
        "netG": workload.section("student"),
        "netTeacher": workload.section("teacher"),
        "train": {"distillation_type": "feature"},
    }
    model = define_Model(options)
    model.init_train()
    teacher, processes = model.netTeacher, model.processes
    assert teacher is not None
    slots = processes.share(workload.batch)
    here = slice(slots.start, slots.stop)
    images = {"L": workload.images()[here], "H": workload.images(scale=4)[here]}
    trained = [weight for network in (model.netG, model.netP) if network is not None for weight in network.parameters()]
    gradients = torch.zeros(sum(weight.numel() for weight in trained))
    losses = torch.zeros(3)

    def step() -> None:
        processes.maximum(0)  # as the loop does: is the batch there,
        model.feed_data({**images, "slots": slots, "batch": workload.batch})
        model.optimize_parameters(1)
        processes.maximum(0)  # and was there a signal

    def ask_teacher() -> None:
        with torch.no_grad():
            restored(teacher, images["L"], True)

    def messages() -> None:
        for _ in range(MESSAGES):
            processes.maximum(0)
            dist.all_reduce(gradients)
            processes.sum(losses)
            processes.maximum(0)

    return {"step": step, "teacher": ask_teacher, "messages": messages}


if __name__ == "__main__":
    start_process("cpu")
    known = tasks(Workload(**json.loads(sys.argv[1])))
    print("ready", flush=True)
    for line in sys.stdin:
        known[line.strip()]()
        print("done", flush=True)
