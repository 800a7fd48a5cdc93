"""The table of names: every name leads to its class, and one line makes a new distillation type trainable."""

from pathlib import Path

import pytest
from torch import Tensor

import swinlet
from swinlet.data.dataset_sr import DatasetSR
from swinlet.distillation import Distillation, Lesson
from swinlet.errors import OptionError
from swinlet.models.model_plain import ModelPlain
from swinlet.models.network_swinir import SwinIR
from swinlet.options import names


@pytest.mark.parametrize(
    ("table", "base"),
    [
        (names.MODELS, ModelPlain),
        (names.NETWORKS, SwinIR),
        (names.DISTILLATIONS, Distillation),
        (names.DATASETS, DatasetSR),
    ],
)
def test_every_name_leads_to_its_class(table: dict[str, str], base: type) -> None:
    classes = [names.named_class(table, name) for name in table]
    assert all(issubclass(found, base) for found in classes)
    assert len(set(classes)) == len(classes)


class Brighter(Distillation):
    """Stands for the one new file."""

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        return {"l_g_bright": 1 - lesson.E.mean()}


def test_one_line_makes_a_distillation_type_trainable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = {
        "gpu_ids": None,
        "path": {"root": str(tmp_path)},
        "netG": {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4},
        "train": {"distillation_type": "brighter"},
    }
    with pytest.raises(OptionError, match=r"train\.distillation_type: must be one of none, response,"):
        swinlet.define_Model(options)
    entry = names.DistillationEntry("tests.test_names.Brighter", "nothing")
    monkeypatch.setitem(names.DISTILLATIONS, "brighter", entry)
    model = swinlet.define_Model(options)
    model.init_train()
    image = Tensor(1, 3, 8, 8).fill_(0.5)
    model.feed_data({"L": image, "H": image.repeat(1, 1, 4, 4)})
    model.optimize_parameters(1)
    assert set(model.current_log()) == {"l_g_L1", "l_g_bright", "G_loss"}
