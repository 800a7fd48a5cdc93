"""scripts/slurm_train.sh, as far as that can be without Slurm: with stand-ins for srun and scontrol."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swinlet.checkpoint import newest_sealed
from tests.small_run import tree

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "slurm_train.sh"
# Of sbatch's long options, with what their values look like.
DIRECTIVES = {
    "job-name": r"\w+",
    "nodes": r"\d+",
    "gpus-per-node": r"\d+",
    "ntasks-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "time": r"(\d+-)?\d\d:\d\d:\d\d",
    "signal": r"(B:)?[A-Z]+@\d+",
}
# Starts the step's tasks, all on this machine, in blocks; ends with the worst status, and ends all if one fails.
SRUN = f"""#!{sys.executable}
import argparse, os, pathlib, subprocess
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--kill-on-bad-exit", required=True, choices=["1"])
parser.add_argument("--distribution", required=True, choices=["block"])
parser.add_argument("--cpus-per-task", required=True, type=int)
parser.add_argument("command", nargs=argparse.REMAINDER)
command = parser.parse_args().command
nodes, per_node = (int(os.environ[name]) for name in ("SLURM_JOB_NUM_NODES", "SLURM_NTASKS_PER_NODE"))
tasks = []
for rank in range(nodes * per_node):
    node, local = divmod(rank, per_node)
    numbers = {{"SLURM_PROCID": rank, "SLURM_NTASKS": nodes * per_node, "SLURM_NODEID": node, "SLURM_LOCALID": local}}
    tasks.append(subprocess.Popen(command, env=os.environ | {{name: str(n) for name, n in numbers.items()}}))
pathlib.Path(__file__).with_name("tasks").write_text(" ".join(str(task.pid) for task in tasks))
worst, left = 0, list(tasks)
while left:
    pid, status = os.wait()
    left = [task for task in left if task.pid != pid]
    code = abs(os.waitstatus_to_exitcode(status))
    if code and not worst:
        for task in left:
            os.kill(task.pid, 9)
    worst = worst or code
raise SystemExit(worst)
"""
SCONTROL = """#!/bin/sh
[ "$*" = "show hostnames here[1-2]" ] && printf '127.0.0.1\\n127.0.0.2\\n'
"""
# In place of the training: what it would be started with.
ECHO = """#!/bin/sh
echo "$RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE, meets at $MASTER_ADDR:$MASTER_PORT: $OMP_NUM_THREADS $*"
exit ${STATUS:-0}
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="Slurm's scripts are for bash")


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


Submit = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def submit(tmp_path: Path) -> Submit:
    """Starts the script as Slurm does on the first node of a job, with so many nodes and tasks."""
    write_program(tmp_path / "bin" / "srun", SRUN)
    write_program(tmp_path / "bin" / "scontrol", SCONTROL)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMP_"))}

    def start(*arguments: str, nodes: int = 2, tasks: int = 1, **variables: str) -> "subprocess.Popen[str]":
        job = {
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{outside['PATH']}",
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_JOB_NODELIST": "here[1-2]",
            "SLURM_NTASKS_PER_NODE": str(tasks),
            "PYTHON": str(write_program(tmp_path / "bin" / "echo", ECHO)),
        }
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            cwd=ROOT,
            env=outside | job | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def test_syntax() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert os.access(SCRIPT, os.X_OK)


def test_directives() -> None:
    """Slurm reads them up to the first command."""
    head = SCRIPT.read_text(encoding="utf-8").partition("\nset -euo")[0].splitlines()
    assert all(line.startswith("#") or not line for line in head)
    found = dict(re.fullmatch(r"#SBATCH --([\w-]+)=(\S+)", line).groups() for line in head if "SBATCH " in line)  # pyright: ignore[reportOptionalMemberAccess]
    assert found.keys() == DIRECTIVES.keys()
    for name, value in found.items():
        assert re.fullmatch(DIRECTIVES[name], value), f"--{name}={value}"
    assert found["gpus-per-node"] == found["ntasks-per-node"]


def test_every_process_knows_its_place(submit: Submit) -> None:
    job = submit("--opt", "a b.json", "netG.depths=[2]", nodes=2, tasks=3, SLURM_JOB_ID="54321")
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0, output
    places = [f"{rank} of 6, {rank % 3} of 3, meets at 127.0.0.1:24321: 1 " for rank in range(6)]
    command = "main_train_student.py --opt a b.json netG.depths=[2]"
    assert sorted(output.splitlines()) == [place + command for place in places]


def test_a_failure_is_the_jobs(submit: Submit) -> None:
    job = submit(STATUS="3")
    job.communicate(timeout=60)
    assert job.returncode == 3


def test_sweep(submit: Submit, tmp_path: Path) -> None:
    sweep = tmp_path / "my runs.txt"
    sweep.write_text("task=A train.G_optimizer_lr=1e-4\ntask=B netG.depths=[2,2]")  # without an end of line

    def outcome(number: str, **more: str) -> tuple[int, str]:
        job = submit("--opt", "t.json", nodes=1, SLURM_ARRAY_TASK_ID=number, **more)
        output, _ = job.communicate(timeout=60)
        return job.returncode, output

    for number, line in enumerate(sweep.read_text().splitlines(), start=1):
        status, output = outcome(str(number), SWEEP=str(sweep))
        assert status == 0
        assert output.endswith(f"main_train_student.py --opt t.json {line}\n")
    status, output = outcome("3", SWEEP=str(sweep))
    assert status == 1
    assert f"line 3 of {sweep}: there is none" in output
    status, output = outcome("1")
    assert status == 1
    assert "a job array needs SWEEP" in output


def test_outside_of_a_job(submit: Submit) -> None:
    job = submit(SLURM_JOB_ID="")
    assert "this is a job: sbatch scripts/slurm_train.sh" in job.communicate(timeout=60)[0]
    assert job.returncode == 1


def test_two_nodes_train_until_the_time_limit_and_one_goes_on(submit: Submit, photos: Path, tmp_path: Path) -> None:
    options = tmp_path / "train.json"
    never = {"checkpoint_save": 10**6, "checkpoint_test": 10**6, "checkpoint_print": 1}
    data = tree(photos, tmp_path / "of runs", total_iter=10**6, G_scheduler_milestones=[10**6], **never)
    options.write_text(json.dumps(data))

    job = submit("--opt", str(options), PYTHON=sys.executable)
    log = tmp_path / "of runs" / "run" / "metrics.jsonl"
    try:
        wait_for(lambda: log.exists() and '"type": "train"' in log.read_text(), job)
    finally:
        for task in (tmp_path / "bin" / "tasks").read_text().split():
            os.kill(int(task), signal.SIGTERM)  # as Slurm does, to all tasks and not to the script
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0, output
    sealed = newest_sealed(log.parent / "models")
    assert sealed is not None
    assert f"stopped by SIGTERM after iteration {sealed.step} of" in output
    assert "in 2 processes" in output

    job = submit("--opt", str(options), f"train.total_iter={sealed.step + 2}", nodes=1, PYTHON=sys.executable)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0, output
    assert f"after iteration {sealed.step}\n" in output
    final = newest_sealed(log.parent / "models")
    assert final is not None
    assert final.step == sealed.step + 2


def wait_for(condition: Callable[[], bool], job: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 60
    while not condition():
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
