"""The page, in gradio's components."""

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast
from weakref import WeakValueDictionary

import gradio as gr
import numpy as np
from gradio.block_function import BlockFunction
from gradio.themes import Default
from numpy.typing import NDArray

from swinlet.errors import DataError, SwinletError
from swinlet.utils.image_io import IMAGE_SUFFIXES
from swinlet.utils.memory import is_out_of_memory
from swinlet.utils.picture import Picture, read_picture
from swinlet.web.clock import Clock
from swinlet.web.compare import BICUBIC, ORIGINAL, SIDES, Method, Part, Result, compare, prepare
from swinlet.web.markup import describe, details, duration, framed, note, problem, table, thumbnail
from swinlet.web.shelf import FORGET, Comparison, Shelf

MAX_FILE = 100_000_000
"""Bytes of an uploaded file."""

MAX_WAITING = 16
"""Events that wait for their turn; one more is refused."""

MAX_PAGES = 1000
"""Pages of which it is known what they want; the ones that have been silent for longest are forgotten."""

_WHOLE = "the whole picture"
_SMALL, _LARGE = "small: enlarge it", f"an {ORIGINAL}: shrink it, enlarge that, and score"
_EMPTY = '<p class="swl-empty">Drop a picture on the left and press the button: the results appear here.</p>'
_SUFFIXES = sorted({*IMAGE_SUFFIXES, ".gif"})
_FOLDER = Path(__file__).parent
_SAME = cast("dict[str, Any]", gr.skip())


@dataclass(frozen=True)
class Preview:
    """What was dropped, for choosing a part of it.

    Attributes:
        image: (h, w, 3), small.
        size: height and width of the picture.
        centre: (x, y) of the part in [0, 1].
    """

    image: NDArray[np.uint8]
    size: tuple[int, int]
    centre: tuple[float, float] = (0.5, 0.5)

    def framed(self, side: str) -> NDArray[np.uint8]:
        """With the frame of the part."""
        return framed(self.image, self.size, _part(side, self))


class Wish(NamedTuple):
    """What a page wants to be enlarged: files, and the part's side."""

    path: str | None
    kind: str
    original: str | None
    side: str


class Job:
    """A picture that is being enlarged.

    Attributes:
        is_stale: the page wants something else by now.
    """

    is_stale = False


class Page(gr.Blocks):
    """Refuses events with values that no component sends; gradio also prints a traceback of each."""

    async def preprocess_data(self, block_fn: BlockFunction, *given: Any, **more: Any) -> Any:
        """As gradio's.

        Raises:
            gr.Error: a value is missing, or no component would send it; or the event is for the browser alone.
        """
        try:
            if block_fn.fn is None:
                raise ValueError("there is nothing to call")
            return await super().preprocess_data(block_fn, *given, **more)  # pyright: ignore[reportUnknownVariableType]
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            raise gr.Error("No such values: load the page again.", print_exception=False) from error


class Events:
    """What happens on the page: each method takes the values of components and returns new ones.

    Args:
        methods: that are offered.
        scale: of all.
        max_pixels: of a picture that is enlarged.
        clock: of computations.
        shelf: where results are put.
    """

    def __init__(self, methods: Sequence[Method], scale: int, max_pixels: int, clock: Clock, shelf: Shelf) -> None:
        self.methods = methods
        self.scale = scale
        self.max_pixels = max_pixels
        self._clock = clock
        self._shelf = shelf
        self._jobs: WeakValueDictionary[str, Job] = WeakValueDictionary()
        self._wishes: dict[str, Wish] = {}

    def look(self, path: str | None, side: str) -> tuple[Any, ...]:
        """A picture was dropped or taken away -> preview, its picture, what it is."""
        if path is None:
            return None, gr.update(value=None, visible=False), ""
        try:
            picture = _read(path)
        except DataError as error:
            return None, gr.update(value=None, visible=False), problem(str(error))
        preview = Preview(thumbnail(picture), picture.size)
        return preview, gr.update(value=preview.framed(side), visible=True), note(describe(picture))

    def draw(self, preview: Preview | None, side: str) -> Any:
        """Another part was chosen -> the preview's picture."""
        return _SAME if preview is None else preview.framed(side)

    def aim(self, preview: Preview | None, side: str, event: gr.SelectData, request: gr.Request) -> tuple[Any, ...]:
        """The preview was clicked -> preview, its picture, message, results."""
        if preview is None:
            return (_SAME,) * 4
        if side == _WHOLE:
            raise gr.Error("All of the picture is enlarged: choose a part first.", print_exception=False)
        height, width = preview.image.shape[:2]
        aimed = replace(preview, centre=(event.index[0] / width, event.index[1] / height))
        self._end(_page_of(request))
        return aimed, aimed.framed(side), *_cleared()

    def press(self, path: str | None, kind: str, original: str | None, side: str, request: gr.Request) -> None:
        """The button was pressed: what is wanted from now on, until it changes."""
        self._wish(_page_of(request), _wish_of(path, kind, original, side))

    def renew(
        self, path: str | None, kind: str, original: str | None, side: str, request: gr.Request
    ) -> tuple[Any, ...]:
        """What is to be enlarged has changed -> message, results: there are none of it, what is computed is not.

        The browser may tell of a change late, when the button has been pressed since: it is no news then.
        """
        page, wish = _page_of(request), _wish_of(path, kind, original, side)
        if self._wishes.get(page) == wish:
            return _SAME, _SAME
        self._wish(page, wish)
        self._end(page)
        return _cleared()

    def _wish(self, page: str, wish: Wish) -> None:
        self._wishes.pop(page, None)
        self._wishes[page] = wish
        if len(self._wishes) > MAX_PAGES:
            del self._wishes[next(iter(self._wishes))]

    def _end(self, page: str) -> None:
        """What is computed for a page ends, and nothing more comes of it."""
        job = self._jobs.get(page)
        if job is not None:
            job.is_stale = True
        self._clock.stop(page)

    def run(
        self,
        path: str | None,
        kind: str,
        original: str | None,
        chosen: Sequence[str],
        side: str,
        preview: Preview | None,
        request: gr.Request,
    ) -> Generator[tuple[Any, ...], None, None]:
        """Enlarge -> message, results, scores, left, right, slider, details, comparison; meanwhile messages alone."""
        wanted = [method for method in self.methods if method.label in chosen]
        wish, page = _wish_of(path, kind, original, side), _page_of(request)
        if self._wishes.get(page, wish) != wish:  # it has waited for others
            yield _refused("what is to be enlarged was changed meanwhile: press the button again")
        elif path is None:
            yield _refused("drop a picture first")
        elif not wanted:
            yield _refused("choose a method")
        else:
            truth = original if kind == _SMALL else None
            job = self._jobs[page] = Job()
            try:
                steps = self._compare(path, truth, wanted, kind == _LARGE, _part(side, preview), page)
                for step in steps:
                    if job.is_stale:
                        yield *_cleared(), *[_SAME] * 6
                        return
                    yield step
            except (SwinletError, OSError) as error:
                yield (*_cleared(), *[_SAME] * 6) if job.is_stale else _refused(str(error))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                yield _refused("the memory does not suffice: choose a smaller part")

    def _compare(
        self,
        path: str,
        original: str | None,
        methods: Sequence[Method],
        is_original: bool,
        part: Part | None,
        owner: str,
    ) -> Generator[tuple[Any, ...], None, None]:
        material = prepare(
            _read(path),
            scale=self.scale,
            max_pixels=self.max_pixels,
            truth=None if original is None else _read(original),
            is_original=is_original,
            part=part,
        )
        results: list[Result] = []
        steps = compare(material, methods, self.scale)
        for method in methods:
            yield _told(note(_progress(results, f"{method.label} ...")))
            with self._clock.turn(owner):
                results.append(next(steps))
        yield _told(note(_progress(results, "writing the pictures ...")))
        yield _filled(self._shelf.put(Path(path).stem, material, results, is_original, self.scale))

    def stop(self, request: gr.Request) -> tuple[Any, ...]:
        """End what is computed for this page -> as ``run``."""
        self._clock.stop(_page_of(request))
        return _told(note("stopped"))

    def slide(self, comparison: Comparison | None, left: str, right: str) -> Any:
        """Other sides were chosen -> the slider's pictures."""
        if comparison is None:
            return _SAME
        pair = _pair(comparison, left, right)
        if not all(map(os.path.exists, pair)):
            raise gr.Error("These pictures have been removed meanwhile: enlarge again.", print_exception=False)
        return pair


def build_page(events: Events) -> gr.Blocks:
    """The page: what is given on the left, what comes of it on the right."""
    labels = [method.label for method in events.methods]
    with Page(title="swinlet", analytics_enabled=False, fill_width=True, delete_cache=(60, FORGET)) as page:
        preview = gr.State(None, time_to_live=FORGET)
        comparison = gr.State(None, time_to_live=FORGET)
        gr.HTML(
            f'<div class="swl-head"><h1>swinlet</h1><p>Pictures enlarged x{events.scale} by several methods, side by '
            "side. Nothing leaves this server.</p></div>"
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                picture = gr.File(label="Picture", file_types=_SUFFIXES, height=160, elem_id="picture")
                view = gr.Image(
                    show_label=False, interactive=False, visible=False, buttons=[], format="png", elem_id="preview"
                )
                about = gr.HTML(elem_id="about")
                kind = gr.Radio([_SMALL, _LARGE], value=_SMALL, label="The picture is", elem_id="kind")
                original = gr.File(
                    label="Its original, for scores (optional)", file_types=_SUFFIXES, height=160, elem_id="original"
                )
                chosen = gr.CheckboxGroup(labels, value=labels, label="Methods", elem_id="methods")
                side = gr.Dropdown(
                    [_WHOLE, *map(str, SIDES)],
                    value=_WHOLE,
                    filterable=False,
                    label="Part to enlarge",
                    info="Side in pixels; click on the preview to say where.",
                    elem_id="part",
                )
                with gr.Row():
                    start = gr.Button(f"Enlarge x{events.scale}", variant="primary", elem_id="start", scale=3)
                    stop = gr.Button("Stop", elem_id="stop", min_width=60)
            with gr.Column(scale=3, min_width=320):
                message = gr.HTML(_EMPTY, elem_id="message")
                with gr.Column(visible=False, elem_id="results") as results:
                    scores = gr.HTML(elem_id="scores")
                    with gr.Row():
                        left = gr.Dropdown(labels, label="Left", filterable=False, elem_id="left")
                        right = gr.Dropdown(labels, label="Right", filterable=False, elem_id="right")
                    slider = gr.ImageSlider(
                        show_label=False,
                        interactive=False,
                        type="filepath",
                        max_height=640,
                        buttons=["fullscreen"],
                        elem_id="slider",
                    )
                    magnified = gr.HTML(elem_id="details")

        private: dict[str, Any] = {"api_visibility": "private"}
        quiet: dict[str, Any] = {**private, "show_progress": "hidden"}
        computing: dict[str, Any] = {**private, "concurrency_limit": 1, "concurrency_id": "compute"}
        outputs = [message, results, scores, left, right, slider, magnified, comparison]
        wish = [picture, kind, original, side]
        pressed: Any = start.click(events.press, wish, None, **quiet)
        running = pressed.then(
            events.run,
            [picture, kind, original, chosen, side, preview],
            outputs,
            show_progress="minimal",
            show_progress_on=[message],
            **computing,
        )
        stop.click(events.stop, None, outputs, cancels=[running], **quiet)
        view.select(events.aim, [preview, side], [preview, view, message, results], **quiet)
        # Before what else a change does, for which the browser waits. What is computed ends here, not by ``cancels``:
        # the browser does not know the number of an event just sent.
        for component in wish:
            component.change(events.renew, wish, [message, results], **quiet)
        picture.change(events.look, [picture, side], [preview, view, about], show_progress_on=[about], **computing)
        kind.change(_offer_original, [kind], [original], **quiet)
        side.change(events.draw, [preview, side], [view], **quiet)
        for dropdown in (left, right):
            dropdown.input(events.slide, [comparison, left, right], [slider], **quiet)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=4, api_open=False)


def appearance() -> dict[str, Any]:
    """Theme, styles and script: fonts of the system, nothing from elsewhere."""
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return {
        "theme": Default(primary_hue="blue", neutral_hue="gray", **fonts),
        "css": (_FOLDER / "page.css").read_text(encoding="utf-8"),
        "head": f"<script>{(_FOLDER / 'page.js').read_text(encoding='utf-8')}</script>",
    }


def _read(path: str) -> Picture:
    """An uploaded file; messages call it by its name."""
    file = Path(path)
    try:
        return read_picture(file.name, file.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{file.name} has been removed meanwhile: drop it again") from error


def _wish_of(path: str | None, kind: str, original: str | None, side: str) -> Wish:
    return Wish(path, kind, original if kind == _SMALL else None, side)


def _part(side: str, preview: Preview | None) -> Part | None:
    """The part for a choice of the page."""
    if side == _WHOLE:
        return None
    return Part(int(side), (0.5, 0.5) if preview is None else preview.centre)


def _offer_original(kind: str) -> Any:
    return gr.update(visible=kind == _SMALL)


def _page_of(request: gr.Request) -> str:
    """Which of the open pages an event comes from."""
    return request.session_hash or ""


def _told(html: str) -> tuple[Any, ...]:
    """``run``'s values with a message, the results as they were."""
    return gr.update(value=html, visible=True), *[_SAME] * 7


def _cleared() -> tuple[Any, ...]:
    """Message and results, as before the first picture."""
    return gr.update(value=_EMPTY, visible=True), gr.update(visible=False)


def _refused(text: str) -> tuple[Any, ...]:
    """``run``'s values with what is wrong, and no results: those there were of something else."""
    return gr.update(value=problem(text), visible=True), gr.update(visible=False), *[_SAME] * 6


def _filled(found: Comparison) -> tuple[Any, ...]:
    labels = [entry.label for entry in found.entries]
    networks = [label for label in labels if label not in (BICUBIC.label, ORIGINAL)]
    left, right = labels[0], networks[0] if networks else labels[-1]
    return (
        gr.update(visible=False),
        gr.update(visible=True),
        table(found),
        gr.update(choices=labels, value=left),
        gr.update(choices=labels, value=right),
        _pair(found, left, right),
        details(found),
        found,
    )


def _progress(done: Sequence[Result], now: str) -> str:
    return ", ".join([*(f"{result.method.label}: {duration(result.seconds)}" for result in done), now])


def _pair(found: Comparison, left: str, right: str) -> tuple[str, str]:
    return str(found.entry(left).shown), str(found.entry(right).shown)
