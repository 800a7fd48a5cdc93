"""Write the card of a student that ships with the package, and its curve.

    python scripts/make_student_card.py SCALE RUN SCORES.json

RUN is the folder of the training run, SCORES.json what ``swinlet evaluate --json`` wrote of the shipped file,
swinlet/assets/student_x<SCALE>.safetensors. Written are student_x<SCALE>.md beside it and docs/student_x<SCALE>.png.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from swinlet.model_card import PublishedModel, ScoreTable, read_scores, render_card
from swinlet.models.cost import parameter_count
from swinlet.models.open_network import open_weights
from swinlet.models.select_network import net_type_of
from swinlet.options import TrainOptions
from swinlet.upscale.upscaler import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
LICENCE = (
    "The weights are given under Apache-2.0, as the code. The photographs that they were trained on are not part of "
    "them; their publishers gave them out for research (T91) and for non-commercial research and education (BSDS500): "
    "whoever must know what follows for their own use should ask a lawyer, or train a student on images of their own."
)
DATA = (
    "490 photographs: T91 (91, of which the small ones are left out where patches are large), BSDS500 train (199, "
    "without the one that is Set5's woman) and BSDS500 test (200); the low-resolution images are MATLAB's bicubic. "
    "Set5, Set14 and BSD100 are not among them."
)
FIRST_PART = (
    "14,000 of the 24,000 iterations of 8 patches of options/train_student_x4.json, from interpolation, in 1.8 hours "
    "(Set5 31.55 dB, Set14 28.15 dB; [curve](../../docs/student_x4_first.png))"
)
SECOND_PART = (
    "Then 5,000 of 4 patches of 48x48 LR pixels of options/finetune_student_x4.json in 1.2 hours (Set5 31.58 dB, Set14 "
    "28.20 dB; [curve](../../docs/student_x4_finetuned.png))"
)
CRAFT = (
    "CRAFT of NTIRE 2024's x4 challenge (team 34; 753,344 parameters, Set5 32.39 dB), its images of the training "
    "photographs, stored beforehand; not part of the student, which learns from the ground truth as well"
)
TEACH = (
    "swinlet teach --teacher ../shared/data/teachers/craft_x4_ntire2024_team34.pth --data ../shared/data/train "
    "--on-bad-image skip --out study_data/answers_craft_all\n"
)


@dataclass(frozen=True)
class Training:
    """How a student came about.

    Attributes:
        before: what came before the run.
        files: option files of all parts.
        weights: what is exported of the last.
        curve: whose scores are shown, "E" (the moving average) or "G".
        teacher: who taught.
        teach: the command that stores its answers.
        remark: about the run.
    """

    before: str
    files: tuple[str, ...]
    weights: str
    curve: str
    teacher: str = "none"
    teach: str = ""
    remark: str = ""


TRAININGS = {
    2: Training(  # 5,000 iterations after a begin far off, the moving average still lags behind by 0.03 dB
        before=f"Begun from a student for x4 after {FIRST_PART}.",
        files=("train_student_x2",),
        weights="superresolution/student_x2/models/5000_G.pth",
        curve="G",
    ),
    4: Training(
        before=f"First {FIRST_PART}. {SECOND_PART}.",
        files=("train_student_x4", "finetune_student_x4", "distil_student_x4"),
        weights="superresolution/student_x4_distilled/models/14000_E.pth",
        curve="E",
        teacher=CRAFT,
        teach=TEACH,
        remark=" (until iteration 4,624 with the learning rate of a schedule of 20,000)",
    ),
}
TESTSETS = "--testset ../shared/data/testsets/Set5 --testset ../shared/data/testsets/Set14"
CURVES = {"E": "the moving average", "G": "the student"}
MACHINE = (
    "one thread of a processor with AVX-512 and bf16 (AMD EPYC, Zen 4), on which tests and other programs ran, too"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scale", type=int, choices=TRAININGS)
    parser.add_argument("run", type=Path)
    parser.add_argument("scores", type=Path)
    arguments = parser.parse_args()
    records = [json.loads(line) for line in (arguments.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    options = [record["options"] for record in records if record["type"] == "start"][-1]
    weights = SHIPPED[arguments.scale]
    name = weights.stem
    training = TRAININGS[arguments.scale]
    content = weights.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    network = open_weights(weights, "weights")[0]
    tables, scored_with = read_scores(arguments.scores, sha256)
    card = PublishedModel(
        name=f"swinlet {name}",
        shipped=True,
        net_type=net_type_of(network),
        config=network.config,
        parameters=parameter_count(network),
        file=weights.name,
        size=len(content),
        sha256=sha256,
        scores=tables,
        scored_with=scored_with,
        licence="apache-2.0",
        licence_text=LICENCE,
        teacher=training.teacher,
        data=DATA,
        command=training.teach
        + "".join(f"python main_train_student.py --opt options/{file}.json\n" for file in training.files)
        + f"swinlet export {training.weights} --precision fp16 --out swinlet/assets/{weights.name}\n"
        + f"swinlet evaluate --weights swinlet/assets/{weights.name} {TESTSETS}",
        log=f"{training.before} {log_of(records, options, training, name)}",
    )
    weights.with_suffix(".md").write_text(render_card(card), encoding="utf-8")
    draw(curves_of(records, training.curve), tables, ROOT / "docs" / f"{name}.png")


def log_of(records: list[dict[str, Any]], options: dict[str, Any], training: Training, name: str) -> str:
    """What happened in the run: steps, hours of computing, the way of its scores."""
    curves, train = curves_of(records, training.curve), options["train"]
    steps = max(curves["test"])
    speeds = [record["it_per_s"] for record in records if record["type"] == "train" and record["step"] <= steps]
    hours = sum(train["checkpoint_print"] / speed for speed in speeds) / 3600
    batch = options["datasets"]["train"]["dataloader_batch_size"]
    side = options["datasets"]["train"]["H_size"] // options["scale"]
    label = TrainOptions.model_validate(train).distillation_label
    lines = [
        f"Then {steps:,} of {train['total_iter']:,} iterations{training.remark} of {batch} patches of {side}x{side} LR "
        f"pixels, distillation type {label}, "
        f"{hours:.1f} hours on {MACHINE}. PSNR-Y of {CURVES[training.curve]} meanwhile, before the weights were "
        "rounded:",
        "",
        "| iteration | Set5 | Set14 |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| {step:,} | {value:.2f} | {curves['val'][step]:.2f} |"
        for step, value in curves["test"].items()
        if step % (2 * train["checkpoint_test"]) == 0 or step == steps
    ]
    return "\n".join([*lines, "", f"![PSNR-Y over iterations](../../docs/{name}.png)"])


def curves_of(records: list[dict[str, Any]], label: str) -> dict[str, dict[int, float]]:
    """Test set -> iteration -> PSNR-Y of the weights with a label."""
    curves: dict[str, dict[int, float]] = {"test": {}, "val": {}}
    for record in records:
        if record["type"] == "test" and record["weights"] == label:
            curves[record["set"]][record["step"]] = record["mean"]["psnr_y"]
    return curves


def draw(curves: dict[str, dict[int, float]], tables: list[ScoreTable], path: Path) -> None:
    """PSNR-Y over iterations, and bicubic's."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for curve, table in zip(curves.values(), tables, strict=True):
        (line,) = axes.plot(list(curve), list(curve.values()), marker=".", label=table.testset)
        bicubic = next(row["psnr_y"] for label, row in table.rows.items() if "bicubic" in label)
        axes.axhline(bicubic, color=line.get_color(), linestyle=":", label=f"{table.testset}, bicubic")
    axes.set_xlabel("iteration")
    axes.set_ylabel("PSNR-Y (dB)")
    axes.grid(alpha=0.3)
    figure.legend(ncols=4, loc="outside upper center")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
