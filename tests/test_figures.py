"""Figures as SVG for a page: what is drawn where, any labels, any values, no colours of their own."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

matplotlib = pytest.importorskip("matplotlib")

from swinlet.report.figures import Point, Series, curves, scatter  # noqa: E402

MINUS = "\N{MINUS SIGN}"
NS = "{http://www.w3.org/2000/svg}"


def draw(*series: Series, log_y: bool = False) -> str:
    return curves("PSNR", "iteration", "dB", series, log_y=log_y)


def line(values: list[float], label: str = "a", **more: bool) -> Series:
    return Series(label, "--model-a", [1000 * i for i in range(len(values))], values, **more)


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(NS + tag))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in elements(svg, "text")]


def curve_paths(svg: str, colour: str = "--model-a") -> list[str]:
    found = (path for path in elements(svg, "path") if f"stroke: var({colour})" in path.get("style", ""))
    return [path.attrib["d"] for path in found]


def vertices(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def markers(svg: str, colour: str = "--model-a") -> int:
    return sum(f"fill: var({colour})" in use.get("style", "") for use in elements(svg, "use"))


def test_a_part_of_a_page() -> None:
    svg = draw(line([27, 28]), line([28, 27], "b", dashed=True))
    root = ElementTree.fromstring(svg)
    assert svg.startswith("<svg ")
    assert root.attrib["width"] == "100%"
    assert "height" not in root.attrib
    assert root.attrib["viewBox"] == "0 0 331.2 237.6"  # 4.6 by 3.1 inches, a row of the legend
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "PSNR"
    assert not elements(svg, "style")
    assert not elements(svg, "metadata")
    assert "font-family" not in svg
    assert "DejaVu" not in svg


def test_colours_come_from_the_page() -> None:
    band = Series("b", "--model-b", [0, 1], [1, 2], band=([0, 1], [2, 3]))
    for svg in (draw(line([1, math.nan, 3]), band), scatter("t", "x", "y", [Point("p", "--model-a", 1, 2)]), draw()):
        without_links = re.sub(r'url\(#s\w+-\d+\)|href="#s\w+-\d+"', "", svg)
        assert "#" not in without_links
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) <= {
            "none",
            *(f"var(--{name})" for name in ("ink", "muted", "rule", "model-a", "model-b")),
        }
        assert all("fill: var(" in text.attrib["style"] for text in elements(svg, "text"))


@pytest.mark.parametrize("colour", ["red", "--a;", "--", "", "--a)"])
def test_a_colour_is_the_name_of_a_property(colour: str) -> None:
    with pytest.raises(ValueError, match="is no name of a CSS custom property"):
        draw(Series("a", colour, [1], [1]))
    with pytest.raises(ValueError, match="is no name of a CSS custom property"):
        scatter("t", "x", "y", [Point("a", colour, 1, 1)])


def test_the_same_arguments_give_the_same_text() -> None:
    assert draw(line([1, 2])) == draw(line([1, 2]))


def test_ids_of_two_figures_differ() -> None:
    series = [Series("a", colour, [1], [1]) for colour in ("--model-a", "--model-b")]
    ids = [set(re.findall(r'\bid="([^"]+)"', draw(one))) for one in series]
    assert all(ids)
    assert not ids[0] & ids[1]


def test_links_lead_to_ids() -> None:
    svg = draw(line([1, math.nan, 3, 4]), line([1], "b"))
    links = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
    assert {one or other for one, other in links} == set(re.findall(r'\bid="([^"]+)"', svg))


def test_vertices_by_hand() -> None:
    """Three equally spaced steps, values 1, 3, 2: the third lies half as high as the second."""
    (path,) = curve_paths(draw(line([1, 3, 2])))
    (x0, y0), (x1, y1), (x2, y2) = vertices(path)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.02)
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.5, abs=0.001)


def test_logarithmic_values() -> None:
    """1, 100, 10 on a logarithmic axis look like 0, 2, 1; what is not positive is a gap."""
    svg = draw(line([1, 100, 10, 0, -1]), log_y=True)
    (path,) = curve_paths(svg)
    (_, y0), (_, y1), (_, y2) = vertices(path)
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.5, abs=0.001)
    assert {"1", "10", "100"} < set(texts(svg))


def test_gaps_and_markers() -> None:
    svg = draw(line([1, 2, math.nan, 3, math.inf, 4, 5, 1e200]))
    (path,) = curve_paths(svg)
    assert path.count("M") == 3
    assert markers(svg) == 1  # of the value 3, which no line shows
    assert markers(draw(line([1]))) == 1
    assert markers(draw(line([1, 2]))) == 0


@pytest.mark.parametrize(
    ("last", "ticks"),
    [
        (400, "0 100 200 300 400"),
        (900, "0 200 400 600 800"),
        (1000, "0 0.2k 0.4k 0.6k 0.8k 1k"),
        (2000, "0 0.5k 1k 1.5k 2k"),
        (500_000, "0 100k 200k 300k 400k 500k"),
        (2_000_000, "0 0.5M 1M 1.5M 2M"),
        (1, "0 1"),
    ],
)
def test_steps_are_short(last: int, ticks: str) -> None:
    svg = draw(Series("a", "--model-a", [0, last], [math.pi, 4 * math.pi]))
    assert texts(svg)[: len(ticks.split())] == ticks.split()


@pytest.mark.parametrize(
    ("low", "high", "log_y", "ticks"),
    [
        (27, 29, False, "27.0 27.5 28.0 28.5 29.0"),
        (-1, 1, False, "-1.0 -0.5 0.0 0.5 1.0"),
        (5e-5, 2e-4, False, "5e-5 1e-4 1.5e-4 2e-4"),
        (28.0001, 28.0004, False, "28.0001 28.0002 28.0003 28.0004"),
        (1e20, 3e20, False, "1e20 1.5e20 2e20 2.5e20 3e20"),
        (0.02, 0.05, True, "0.02 0.03 0.04 0.05"),
        (0.002, 1.5, True, "0.003 0.01 0.03 0.1 0.3 1"),
        (0.002, 2, True, "0.01 0.1 1"),
        (0.00031, 0.00033, True, "3.1e-4 3.15e-4 3.2e-4 3.25e-4 3.3e-4"),
        (1e-12, 1, True, "1e-12 1e-9 1e-6 0.001 1"),
    ],
)
def test_values_have_few_round_ticks(low: float, high: float, log_y: bool, ticks: str) -> None:
    shown = texts(draw(line([low, high]), log_y=log_y))
    assert shown[shown.index("iteration") + 1 : shown.index("dB")] == ticks.replace("-", MINUS).split()


def test_a_legend_for_several_series_only() -> None:
    assert texts(draw(line([1, 2], "one")))[-1] == "PSNR"
    svg = draw(line([1, 2], "one"), line([2, 3], "_two", dashed=True), line([math.nan], "none"))
    assert texts(svg)[-2:] == ["one", "_two"]
    assert svg.count("stroke-dasharray") == 2  # the curve, its legend


def test_a_legend_of_many_rows_leaves_room() -> None:
    svg = draw(*(line([1, 2 + i], f"student with seed {i}") for i in range(12)))
    assert ElementTree.fromstring(svg).attrib["viewBox"] == "0 0 331.2 309.6"  # 6 rows of 14.4
    baselines = [float(text.attrib["y"]) for text in elements(svg, "text") if "student" in (text.text or "")]
    (axis_label,) = [float(text.attrib["y"]) for text in elements(svg, "text") if text.text == "iteration"]
    assert axis_label < min(baselines) < max(baselines) < 309.6


def test_bands() -> None:
    band = Series("a", "--model-b", [0, 1, 2], [2, 2, 2], band=([1, 1, math.nan], [3, 3, 3]))
    (shape,) = [use for use in elements(draw(band), "use") if "fill-opacity" in use.attrib["style"]]
    assert "fill: var(--model-b)" in shape.attrib["style"]


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="series 'a': 2 steps, 1 values"):
        draw(Series("a", "--model-a", [1, 2], [1]))


@pytest.mark.parametrize("series", [[], [line([])], [line([math.nan, math.inf]), line([])]])
def test_no_data_yet(series: list[Series]) -> None:
    assert texts(draw(*series)) == ["iteration", "dB", "no data yet", "PSNR"]
    assert texts(draw(*series, log_y=True)) == ["iteration", "dB", "no data yet", "PSNR"]


def test_values_without_a_logarithm_are_no_data() -> None:
    assert "no data yet" in texts(draw(line([0, -1]), log_y=True))
    assert "no data yet" in texts(scatter("t", "x", "y", [Point("p", "--model-a", 0, 1)], log_x=True))


ODD = [
    *("$x_1$", "$\\frac", "_a", "", "  ", "<b>&amp;\"'", "--> #0d0000 url(#x)"),
    *("模型 😀 नमस्ते مرحبا", "a\x00\x1b\n\ud800b"),
]


@pytest.mark.parametrize("odd", ODD)
def test_any_text(odd: str) -> None:
    shown = re.sub("[\x00\x1b\n\ud800]", " ", odd)
    first = curves(odd, odd, odd, [line([1, 2], odd), line([2, 1], odd)])
    second = scatter(odd, odd, odd, [Point(odd, "--model-a", 1, 2)])
    assert "<b>" not in first
    for svg, times in ((first, 5), (second, 4)):
        svg.encode("utf-8")
        assert ElementTree.fromstring(svg).attrib["aria-label"] == shown
        assert texts(svg).count(shown) == (times if shown else 0)


def test_long_texts_are_shortened_in_the_middle() -> None:
    name = "student_C_500k_marathon_of_many_days_seed_"
    svg = curves("T" * 90, "x" * 90, "y" * 90, [line([1, 2], name + "1"), line([2, 1], name + "2")])
    assert ElementTree.fromstring(svg).attrib["aria-label"] == "T" * 90
    assert {"T" * 22 + "…" + "T" * 21, "x" * 24 + "…" + "x" * 23, "y" * 12 + "…" + "y" * 11} < set(texts(svg))
    assert {"student_C_500k…y_days_seed_1", "student_C_500k…y_days_seed_2"} < set(texts(svg))
    assert "模" * 7 + "…" + "模" * 6 in texts(scatter("t", "x", "y", [Point("模" * 40, "--model-a", 1, 2)]))


def boxes(svg: str, labels: list[str]) -> dict[str, tuple[float, float, float, float]]:
    """About where labels lie: left, top, right, bottom, with 4 units a character."""
    found: dict[str, tuple[float, float, float, float]] = {}
    for text in elements(svg, "text"):
        if text.text in labels:
            x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), 4.0 * len(text.text)
            left = (
                x
                - {"start": 0, "middle": 0.5, "end": 1}[text.attrib["style"].split("anchor: ")[1].split(";")[0]] * width
            )
            found[text.text] = (left, y - 8, left + width, y)
    return found


def test_labels_of_points_keep_apart() -> None:
    names = [f"student {i}" for i in range(8)]
    points = [Point(name, "--model-a", 9e5 + i, 28 + i / 100) for i, name in enumerate(names)]
    svg = scatter("t", "parameters", "dB", [*points, Point("teacher", "--model-b", 1.2e7, 31)], log_x=True)
    placed = list(boxes(svg, [*names, "teacher"]).values())
    assert len(placed) == 9
    for i, (left, top, right, bottom) in enumerate(placed):
        assert 0 <= left < right <= 331.2
        assert 0 <= top < bottom <= 223.2
        for other in placed[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    assert markers(svg) == 8
    assert markers(svg, "--model-b") == 1


def test_a_label_prefers_the_right_but_stays_inside() -> None:
    svg = scatter("t", "x", "y", [Point("left", "--model-a", 0, 0), Point("a name on the right", "--model-a", 1, 1)])
    anchors = {text.text: text.attrib["style"] for text in elements(svg, "text")}
    assert "text-anchor: start" in anchors["left"]
    assert "text-anchor: end" in anchors["a name on the right"]


def test_logarithmic_sizes() -> None:
    points = [Point("s", "--model-a", 2e5, 28), Point("t", "--model-a", 12e6, 31), Point("gone", "--model-a", -1, 30)]
    shown = texts(scatter("t", "parameters", "dB", points, log_x=True))
    assert shown[:6] == ["200k", "500k", "1M", "2M", "5M", "10M"]
    assert "gone" not in shown


def test_settings_of_matplotlib_are_left_alone_and_do_not_count() -> None:
    expected = draw(line([1, 2]))
    with matplotlib.rc_context({"svg.fonttype": "path", "axes.facecolor": "red", "font.size": 20}):
        before = dict(matplotlib.rcParams)
        assert draw(line([1, 2])) == expected
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_used() -> None:
    source = Path(curves.__code__.co_filename).read_text(encoding="utf-8")
    assert "pyplot" not in source


VALUES = st.lists(st.floats(), max_size=6)


@settings(max_examples=20, deadline=None)
@given(label=st.text(), lists=st.lists(VALUES, max_size=3), log_y=st.booleans())
def test_any_curves(label: str, lists: list[list[float]], log_y: bool) -> None:
    series = [Series(label, "--model-a", values, values[::-1]) for values in lists]
    ElementTree.fromstring(curves(label, label, label, series, log_y=log_y))


@settings(max_examples=20, deadline=None)
@given(label=st.text(), places=st.lists(st.tuples(st.floats(), st.floats()), max_size=5), log_x=st.booleans())
def test_any_points(label: str, places: list[tuple[float, float]], log_x: bool) -> None:
    points = [Point(label, "--model-a", x, y) for x, y in places]
    ElementTree.fromstring(scatter(label, label, label, points, log_x=log_x))
