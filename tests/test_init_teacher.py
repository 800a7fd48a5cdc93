"""A student that starts with blocks of its teacher."""

from pathlib import Path
from typing import Any

import pytest
import torch

import swinlet
from swinlet.errors import OptionError
from swinlet.models.foreign_network import ImageNetwork
from swinlet.models.init_teacher import source_block, source_stage, start_from_teacher
from swinlet.options import keys_without_effect, parse_options
from swinlet.train import train
from tests.small_run import options, tree

NET: dict[str, Any] = {"embed_dim": 12, "depths": [2, 4, 2], "num_heads": [2, 3, 2], "window_size": 4}


def test_stages_are_spread_from_the_first_to_the_last() -> None:
    assert [source_stage(s, 4, 6) for s in range(4)] == [0, 2, 3, 5]
    assert [source_stage(s, 2, 4) for s in range(2)] == [0, 3]
    assert [source_stage(s, 3, 4) for s in range(3)] == [0, 2, 3]
    assert [source_stage(s, 5, 5) for s in range(5)] == [0, 1, 2, 3, 4]
    assert source_stage(0, 1, 6) == 5


def test_blocks_keep_their_shift() -> None:
    assert [source_block(b, 2, 4) for b in range(2)] == [2, 3]
    assert [source_block(b, 4, 6) for b in range(4)] == [2, 3, 4, 5]
    assert [source_block(b, 2, 6) for b in range(2)] == [4, 5]
    assert source_block(0, 1, 6) == 4
    assert [source_block(b, 2, 3) for b in range(2)] == [2, 1]  # the last of 3 stands alone
    for of in range(1, 8):
        for blocks in range(1, of + 1):
            sources = [source_block(b, blocks, of) for b in range(blocks)]
            assert all(0 <= source < of and source % 2 == b % 2 for b, source in enumerate(sources))
            assert len(set(sources)) == blocks


def test_copies_what_it_says() -> None:
    torch.manual_seed(0)
    teacher = swinlet.define_G(NET)
    student = swinlet.define_G(NET | {"depths": [2, 2], "num_heads": [2, 2]})
    start_from_teacher(student, teacher)
    given, found = teacher.state_dict(), student.state_dict()
    assert torch.equal(found["conv_first.weight"], given["conv_first.weight"])
    assert torch.equal(found["layers.0.conv.bias"], given["layers.0.conv.bias"])
    assert torch.equal(found["layers.1.conv.weight"], given["layers.2.conv.weight"])
    name = "residual_group.blocks.1.attn.qkv.weight"
    assert torch.equal(found[f"layers.1.{name}"], given[f"layers.2.{name}"])


def test_blocks_of_another_kind_are_refused() -> None:
    teacher, student = swinlet.define_G(NET), swinlet.define_G(NET | {"net_type": "swinir_student_v2"})
    with pytest.raises(
        OptionError, match=r"those of SwinIRStudentV2 compute something else than those of SwinIRStudent,"
    ):
        start_from_teacher(student, teacher)


def test_a_student_of_all_blocks_is_the_teacher() -> None:
    teacher, student = swinlet.define_G(NET), swinlet.define_G(NET)
    start_from_teacher(student, teacher)
    image = torch.rand(1, 3, 8, 12)
    assert torch.equal(student.eval()(image), teacher.eval()(image))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 24}, r"netG\.embed_dim has to be 12, not 24"),
        ({"num_heads": [3, 2, 2]}, r"netG\.num_heads has to be \[2, 3, 2\], not \[3, 2, 2\]"),
        ({"upsampler": "nearest+conv"}, r'netG\.upsampler has to be "pixelshuffle", not "nearest\+conv"'),
        (
            {"depths": [2] * 4, "num_heads": [2] * 4},
            r"netG\.depths \[2, 2, 2, 2\] are more than the teacher's \[2, 4, 2\]",
        ),
        ({"depths": [2, 5, 2]}, r"netG\.depths \[2, 5, 2\] are more"),
    ],
)
def test_networks_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        start_from_teacher(swinlet.define_G(NET | changes), swinlet.define_G(NET))


def test_teachers_of_other_architectures() -> None:
    with pytest.raises(OptionError, match=r"the weights of a SwinIR, but the teacher is ImageNetwork"):
        start_from_teacher(swinlet.define_G(NET), ImageNetwork())


def test_options() -> None:
    start = {"netG": NET | {"init_type": "teacher"}}
    with pytest.raises(OptionError, match=r"netG\.init_type: 'teacher', but there is no file: name one"):
        parse_options(start)
    with pytest.raises(OptionError, match=r"netG\.init_type: 2 teachers, but it starts from one"):
        parse_options(start | {"path": {"pretrained_netTeacher": ["a.pth", "b.pth"]}})
    with pytest.raises(OptionError, match=r"netTeacher\.init_type: 'teacher' is a start for students"):
        parse_options({"netTeacher": {"init_type": "teacher"}})
    opt = parse_options(start | {"path": {"pretrained_netTeacher": "a.pth"}})
    assert not [text for text in keys_without_effect(opt) if "Teacher" in text or "init_type" in text]


@pytest.mark.parametrize("kind", ["none", "response"])
def test_training_starts_there_and_resumes(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The teacher's weights are taken once: a resumed run goes on with its own."""
    torch.manual_seed(0)
    teacher = tmp_path / "teacher.pth"
    torch.save(swinlet.define_G(NET | {"depths": [4, 2, 2]}).state_dict(), teacher)
    ends = {}
    for name, stops in (("whole", [4]), ("parts", [2, 4])):
        for stop in stops:
            run = tree(photos, tmp_path / name, teacher, distillation_type=kind, total_iter=stop)
            run["netG"] = NET | {"depths": [2, 2], "num_heads": [2, 2], "init_type": "teacher"}
            caplog.clear()
            assert train(parse_options(run))
            assert (f"first weights: those of {teacher}" in caplog.text) == (stop == stops[0])
        ends[name] = torch.load(tmp_path / name / "run/models/4_G.pth")
    assert all(torch.equal(ends["whole"][key], ends["parts"][key]) for key in ends["whole"])


def test_first_weights_of_the_model(photos: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    given = swinlet.define_G(NET)
    torch.save(given.state_dict(), teacher)
    opt = options(photos, tmp_path, teacher, distillation_type="none")
    section = opt.netG.model_copy(update={"init_type": "teacher", "depths": (2, 2), "num_heads": (2, 2)})
    model = swinlet.define_Model(opt.model_copy(update={"netG": section}))
    model.init_train()
    assert model.netTeacher is None
    for network in (model.netG, model.netE):
        assert network is not None
        assert torch.equal(network.conv_last.weight, given.conv_last.weight)
