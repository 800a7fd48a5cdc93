"""A SwinIR as an ONNX graph, for images of any size and number.

Written operator by operator, not traced: what depends on the size of the image (padding, windows, masks) is computed in
the graph, and nothing depends on torch's exporters. ``tests/test_export.py`` compares it with the network.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from swinlet.errors import SwinletError
from swinlet.models.network_swinir import RSTB, SwinIR, doubling_steps
from swinlet.models.transformer import SwinTransformerBlock, border_masks
from swinlet.models.upsampler_fold import fold
from swinlet.weights import halved

if TYPE_CHECKING:
    import onnx

WeightPrecision = Literal["fp32", "fp16", "int8"]

OPSET, IR_VERSION = 20, 9  # onnxruntime 1.17, OpenVINO 2024.6
INPUT, OUTPUT = "image", "restored"
_INT8_MAX = 63
"""7 bits: with 8, processors without VNNI add up pairs of products beyond what their 16 bits hold."""
_CUBIC = -0.75  # of torch's bicubic interpolation
_SMALLEST_FOLDED = 3  # padded LR side, for the folded upsampler
_NHWC, _NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def onnx_graph(network: SwinIR, metadata: dict[str, str], precision: WeightPrecision = "fp32") -> "onnx.ModelProto":
    """The network as an ONNX model: ``image`` float32 (batch, C, height, width) in [0, 1] to ``restored``.

    Args:
        network: on the CPU, in float32.
        metadata: written into the model.
        precision: of the stored weights of products and convolutions. "fp16": computed with in float32. "int8": those
            of the transformer blocks are multiplied as integers, the others are as in "fp16".

    Raises:
        SwinletError: the package onnx is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise SwinletError("ONNX files are written with the package onnx: pip install 'swinlet[engines]'") from error
    graph = _Graph(precision)
    with torch.no_grad():
        _Writer(graph, network).write()
    channels, scale = network.in_chans, network.upscale
    sizes = ["batch", channels, "height", "width"]
    enlarged = ["batch", channels, f"{scale}*height", f"{scale}*width"]
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "SwinIR",
            [helper.make_tensor_value_info(INPUT, kind, sizes)],
            [helper.make_tensor_value_info(OUTPUT, kind, enlarged)],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="swinlet",
    )
    helper.set_model_props(model, metadata)
    return model


class _Graph:
    """Nodes and constants; the methods return names of values."""

    def __init__(self, precision: WeightPrecision) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._precision = precision
        self._quantized: dict[str, list[str]] = {}
        self._constants: dict[tuple[str, bytes], str] = {}

    def add(self, operator: str, *inputs: str, outputs: int = 0, **attributes: Any) -> Any:
        """A node; its output, or the list of its ``outputs``."""
        import onnx

        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs or 1)]
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), names, name=names[0], **attributes))
        return names if outputs else names[0]

    def constant(self, value: NDArray[Any] | Tensor) -> str:
        """A tensor of the graph; those with the same name are one."""
        import onnx

        array = np.ascontiguousarray(value.numpy() if isinstance(value, Tensor) else value)
        key = (f"{array.dtype}{array.shape}", array.tobytes())
        if key not in self._constants:
            self._constants[key] = name = f"constant_{len(self._constants)}"
            self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return self._constants[key]

    def weight(self, value: Tensor) -> str:
        """A constant that may lose precision."""
        import onnx

        if self._precision == "fp32":
            return self.constant(value)
        return self.add("Cast", self.constant(halved(value)), to=onnx.TensorProto.FLOAT)

    def integers(self, *values: int) -> str:
        """int64, one axis."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """float32, without axes."""
        return self.constant(np.array(value, np.float32))

    def transpose(self, x: str, order: Sequence[int]) -> str:
        return self.add("Transpose", x, perm=list(order))

    def reshape(self, x: str, *sizes: int | str) -> str:
        """Sizes are numbers (-1 once), or names of int64 tensors of one value."""
        if all(isinstance(size, int) for size in sizes):
            return self.add("Reshape", x, self.integers(*sizes))  # pyright: ignore[reportArgumentType]
        parts = [size if isinstance(size, str) else self.integers(size) for size in sizes]
        return self.add("Reshape", x, self.add("Concat", *parts, axis=0))

    def slice(self, x: str, axis: int, start: int | str, end: int | str) -> str:
        limits = [limit if isinstance(limit, str) else self.integers(limit) for limit in (start, end)]
        return self.add("Slice", x, *limits, self.integers(axis))

    def rest(self, x: str, axis: int, start: int) -> str:
        return self.slice(x, axis, start, np.iinfo(np.int64).max)

    def range(self, end: str) -> str:
        """0, 1, ... below ``end``, an int64 tensor of one value."""
        scalar = self.constant(np.array(0, np.int64)), self.constant(np.array(1, np.int64))
        return self.add("Range", scalar[0], self.add("Squeeze", end), scalar[1])

    def rolled(self, x: str, axis: int, shift: int) -> str:
        """As ``Tensor.roll``, along one axis."""
        if shift == 0:
            return x
        return self.add("Concat", self.rest(x, axis, -shift), self.slice(x, axis, 0, -shift), axis=axis)

    def leaky_relu(self, x: str, slope: float) -> str:
        return self.add("LeakyRelu", x, alpha=slope)

    def linear(self, x: str, weight: Tensor, bias: Tensor | None) -> str:
        """As ``F.linear``."""
        if self._precision == "int8":
            product = self._integer_product(x, weight.T)
        else:
            product = self.add("MatMul", x, self.weight(weight.T))
        return product if bias is None else self.add("Add", product, self.constant(bias))

    def _integer_product(self, x: str, weight: Tensor) -> str:
        """x @ weight of integers: x with a scale that is found at run time, the weight with one for each column."""
        if x not in self._quantized:
            self._quantized[x] = self.add("DynamicQuantizeLinear", x, outputs=3)
        whole, scale, zero = self._quantized[x]
        steps = weight.abs().amax(0).clamp(min=1e-30) / _INT8_MAX
        product = self.add("MatMulInteger", whole, self.constant((weight / steps).round().to(torch.int8)), zero)
        return self.add("Mul", self.add("Cast", product, to=1), self.add("Mul", scale, self.constant(steps)))

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        scale, bias = self.constant(layer.weight), self.constant(layer.bias)
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=layer.eps)

    def conv(self, x: str, layer: nn.Conv2d) -> str:
        assert layer.bias is not None
        return self.convolve(x, layer.weight, layer.bias, [layer.padding[0]] * 4)  # pyright: ignore[reportArgumentType]

    def convolve(self, x: str, weight: Tensor, bias: Tensor, pads: list[int]) -> str:
        """``pads``: above, left, below, right."""
        return self.add("Conv", x, self.weight(weight), self.constant(bias), pads=pads)

    def shuffle(self, x: str, factor: int) -> str:
        """As ``nn.PixelShuffle``."""
        return self.add("DepthToSpace", x, blocksize=factor, mode="CRD")


class _Writer:
    """Writes the network's forward pass into a graph. Feature maps are (N, H*W, C), as in the network."""

    def __init__(self, graph: _Graph, network: SwinIR) -> None:
        self.graph = graph
        self.network = network
        self.window = network.block_window

    def write(self) -> None:
        graph, network = self.graph, self.network
        self.batch, h, w = (graph.add("Shape", INPUT, start=i, end=i + 1) for i in (0, 2, 3))
        x = INPUT
        for multiple in dict.fromkeys((network.window_size, self.window)):
            for axis in (2, 3):
                x = self._reflected(x, axis, multiple)
        self.h, self.w = (graph.add("Shape", x, start=i, end=i + 1) for i in (2, 3))
        window = graph.integers(self.window)
        self.rows, self.columns = graph.add("Div", self.h, window), graph.add("Div", self.w, window)
        self._index_windows()

        mean, img_range = graph.constant(network.get_buffer("mean")), graph.number(network.img_range)
        x = graph.add("Mul", graph.add("Sub", x, mean), img_range)
        shallow = graph.conv(x, network.conv_first)
        tokens = self._tokens(shallow)
        deep = self._residual_conv(self._body(tokens), network.conv_after_body)
        deep = graph.add("Add", deep, tokens)
        if network.upsampler == "":
            # Added in tokens, as in the network's convolutions: OpenVINO 2026.4.
            out = graph.add("Add", self._tokens(x), self._tokens(graph.conv(self._image(deep), network.conv_last)))
            out = self._image(out, network.in_chans)
        else:
            out = self._upsample(self._image(deep))
        out = graph.add("Add", graph.add("Div", out, img_range), mean)
        scale = graph.integers(network.upscale)
        out = graph.slice(out, 2, 0, graph.add("Mul", h, scale))
        out = graph.slice(out, 3, 0, graph.add("Mul", w, scale))
        graph.nodes[-1].output[0] = OUTPUT

    def _reflected(self, x: str, axis: int, multiple: int) -> str:
        """``reflect_to_multiple`` along one axis."""
        graph = self.graph
        size = graph.add("Shape", x, start=axis, end=axis + 1)
        whole = graph.integers(multiple)
        padded = graph.add("Mul", graph.add("Div", graph.add("Add", size, graph.integers(multiple - 1)), whole), whole)
        period = graph.add("Mul", graph.add("Sub", size, graph.integers(1)), graph.integers(2))
        period = graph.add("Max", period, graph.integers(1))
        index = graph.add("Mod", graph.range(padded), period)
        return graph.add("Gather", x, graph.add("Min", index, graph.add("Sub", period, index)), axis=axis)

    def _index_windows(self) -> None:
        """Which token of the map is in each place of the windows, and the inverse, for each shift; and of each window
        of the batch, whether it lies at the right (1), at the bottom (2), in the corner (3): its mask."""
        graph, side = self.graph, self.window
        shift = self.network.shift_size
        area = graph.add("Mul", self.h, self.w)
        count = graph.range(area)
        image = graph.reshape(count, self.h, self.w)
        windows = graph.reshape(count, self.rows, self.columns, side, side)
        back = graph.reshape(graph.transpose(windows, [0, 2, 1, 3]), self.h, self.w)
        self.gather: dict[int, str] = {}
        self.scatter: dict[int, str] = {}
        if max(self.network.config["depths"]) == 1:
            shift = 0  # every second block of an RSTB is shifted
        for by in {0, shift}:
            shifted = graph.rolled(graph.rolled(image, 0, -by), 1, -by)
            parted = graph.transpose(graph.reshape(shifted, self.rows, side, self.columns, side), [0, 2, 1, 3])
            self.gather[by] = graph.reshape(parted, -1)
            self.scatter[by] = graph.reshape(graph.rolled(graph.rolled(back, 0, by), 1, by), -1)
        if shift:
            at_right, at_bottom = (self._is_last(count) for count in (self.columns, self.rows))
            at_bottom = graph.add("Mul", graph.reshape(at_bottom, 1, -1, 1), graph.integers(2))
            kinds = graph.add("Add", at_bottom, graph.reshape(at_right, 1, 1, -1))
            every = graph.add("Concat", self.batch, self.rows, self.columns, axis=0)
            self.kinds = graph.reshape(graph.add("Expand", kinds, every), -1)
            right, bottom = border_masks(side, shift)
            self.masks = graph.constant(torch.stack([torch.zeros_like(right), right, bottom, right + bottom])[:, None])

    def _is_last(self, count: str) -> str:
        """int64: 1 for the last of ``count``, else 0."""
        graph = self.graph
        return graph.add("Div", graph.add("Add", graph.range(count), graph.integers(1)), count)

    def _tokens(self, image: str) -> str:
        """(N, C, H, W) -> (N, H*W, C)."""
        graph = self.graph
        return graph.reshape(graph.transpose(image, _NHWC), 0, graph.add("Mul", self.h, self.w), -1)

    def _image(self, tokens: str, channels: int | None = None) -> str:
        """(N, H*W, C) -> (N, C, H, W)."""
        width: int = channels or self.network.config["embed_dim"]
        return self.graph.transpose(self.graph.reshape(tokens, self.batch, self.h, self.w, width), _NCHW)

    def _body(self, x: str) -> str:
        graph, network = self.graph, self.network
        if network.patch_embed.norm is not None:
            x = graph.norm(x, network.patch_embed.norm)
        if network.absolute_pos_embed is not None:
            x = graph.add("Add", x, self._position_table(network.absolute_pos_embed))
        layers: list[RSTB] = list(network.layers)  # pyright: ignore[reportAssignmentType]
        for layer in layers:
            blocks: list[SwinTransformerBlock] = list(layer.residual_group.blocks)  # pyright: ignore[reportAssignmentType]
            x = graph.add("Add", self._residual_conv(self._blocks(x, blocks), layer.conv), x)
        return graph.norm(x, network.norm)

    def _position_table(self, table: Tensor) -> str:
        graph, side = self.graph, self.network.config["img_size"]
        image = graph.constant(table.view(1, side, side, -1).permute(0, 3, 1, 2))
        sizes = graph.add("Concat", graph.integers(1, table.shape[2]), self.h, self.w, axis=0)
        return self._tokens(graph.add("Resize", image, "", "", sizes, mode="cubic", cubic_coeff_a=_CUBIC))

    def _residual_conv(self, tokens: str, conv: nn.Module) -> str:
        """What ends a residual group, without the residual."""
        graph = self.graph
        x = self._image(tokens)
        for layer in conv if isinstance(conv, nn.Sequential) else [conv]:
            if isinstance(layer, nn.Conv2d):
                x = graph.conv(x, layer)
            else:
                assert isinstance(layer, nn.LeakyReLU)
                x = graph.leaky_relu(x, layer.negative_slope)
        return self._tokens(x)

    def _blocks(self, x: str, blocks: Sequence[SwinTransformerBlock]) -> str:
        graph, dim = self.graph, self.network.config["embed_dim"]
        index, shift = self.gather[blocks[0].shift_size], blocks[0].shift_size
        x = graph.add("Gather", x, index, axis=1)
        for block in blocks:
            if block.shift_size != shift:
                index = graph.add("Gather", self.scatter[shift], self.gather[block.shift_size])
                x = graph.add("Gather", graph.reshape(x, self.batch, -1, dim), index, axis=1)
                shift = block.shift_size
            x = self._block(graph.reshape(x, -1, self.window**2, dim), block)
        return graph.add("Gather", graph.reshape(x, self.batch, -1, dim), self.scatter[shift], axis=1)

    def _block(self, x: str, block: SwinTransformerBlock) -> str:
        """(N * windows, tokens, C) -> the same."""
        graph = self.graph
        y = graph.add("Add", x, self._attention(graph.norm(x, block.norm1), block))
        hidden = graph.add("Gelu", self._linear(graph.norm(y, block.norm2), block.mlp.fc1))
        y = graph.add("Add", y, self._linear(hidden, block.mlp.fc2))
        return graph.add("Add", y, x) if block.adds_input else y

    def _attention(self, x: str, block: SwinTransformerBlock) -> str:
        graph, attn = self.graph, block.attn
        tokens, heads, dim = self.window**2, attn.num_heads, self.network.config["embed_dim"]
        weights = torch.split(attn.qkv.weight, dim)
        biases = [None] * 3 if _no_bias(attn.qkv) else torch.split(attn.qkv.bias, dim)
        factors = (attn.scale, 1.0, 1.0)
        parts = [  # one product and a Split took a tenth longer for the whole network
            graph.linear(x, weight * factor, None if bias is None else bias * factor)
            for weight, bias, factor in zip(weights, biases, factors, strict=True)
        ]
        q, k, v = (graph.reshape(part, -1, tokens, heads, dim // heads) for part in parts)
        q, k, v = graph.transpose(q, [0, 2, 1, 3]), graph.transpose(k, [0, 2, 3, 1]), graph.transpose(v, [0, 2, 1, 3])
        # Looked up in the graph: engines do so once, and the file stays small.
        index = graph.constant(attn.get_buffer("relative_position_index"))
        bias = graph.add("Gather", graph.constant(attn.relative_position_bias_table), index, axis=0)
        bias = graph.transpose(bias, [2, 0, 1])
        if block.shift_size:
            bias = graph.add("Gather", graph.add("Add", bias, self.masks), self.kinds, axis=0)
        scores = graph.add("Add", graph.add("MatMul", q, k), bias)
        mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), v)
        mixed = graph.reshape(graph.transpose(mixed, [0, 2, 1, 3]), -1, tokens, dim)
        return self._linear(mixed, attn.proj)

    def _linear(self, x: str, layer: nn.Linear) -> str:
        return self.graph.linear(x, layer.weight, layer.bias)

    def _upsample(self, x: str) -> str:
        graph, network = self.graph, self.network
        if network.upsampler == "pixelshuffledirect":
            return graph.shuffle(graph.conv(x, network.upsample[0]), network.upscale)  # pyright: ignore[reportArgumentType]
        x = graph.leaky_relu(graph.conv(x, network.conv_before_upsample[0]), 0.01)  # pyright: ignore[reportArgumentType]
        steps = doubling_steps(network.upscale)
        if network.upsampler == "pixelshuffle":
            convs = [layer for layer in network.upsample if isinstance(layer, nn.Conv2d)]
            if steps and self.window >= _SMALLEST_FOLDED:
                return self._folded(x, [*convs, network.conv_last], steps)
            for conv, step in zip(convs, steps, strict=True):
                x = graph.shuffle(graph.conv(x, conv), step)
            return graph.conv(x, network.conv_last)
        for i, step in enumerate(steps, start=1):
            scales = graph.constant(np.array([1, 1, step, step], np.float32))
            x = graph.add(
                "Resize",
                x,
                "",
                scales,
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )
            x = graph.leaky_relu(graph.conv(x, network.get_submodule(f"conv_up{i}")), 0.2)  # pyright: ignore[reportArgumentType]
        return graph.conv(graph.leaky_relu(graph.conv(x, network.conv_hr), 0.2), network.conv_last)

    def _folded(self, x: str, convs: Sequence[nn.Conv2d], steps: Sequence[int]) -> str:
        """As ``FoldedUpsampler``."""
        graph = self.graph
        kernels = fold([c.weight.double() for c in convs], [_bias(c).double() for c in convs], steps)
        lines: list[str] = []
        for line, (rows, above) in zip(kernels, self._parts(x, 2), strict=True):
            pixels = [
                graph.convolve(columns, kernel.float(), bias.float(), [above, beside, above, beside])
                for (kernel, bias), (columns, beside) in zip(line, self._parts(rows, 3), strict=True)
            ]
            lines.append(graph.add("Concat", *pixels, axis=3))
        return graph.shuffle(graph.add("Concat", *lines, axis=2), self.network.upscale)

    def _parts(self, x: str, axis: int) -> list[tuple[str, int]]:
        """What the first, the inner and the last pixels along an axis are computed from, and its padding."""
        graph = self.graph
        return [(graph.slice(x, axis, 0, 3), 0), (x, 1), (graph.rest(x, axis, -3), 0)]


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _no_bias(layer: nn.Linear) -> bool:
    return layer.bias is None  # pyright: ignore[reportUnnecessaryComparison]  (torch annotates it as never None)
