"""A network in u2net's form with random weights: as heavy as the one that rembg downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Depth, channels in, inner channels, channels out, and whether it dilates and does not shrink (Qin et al.,
# "U2-Net", arXiv 2005.09007, table 1).
Block = tuple[int, int, int, int, bool]
ENCODER: list[Block] = [
    (7, 3, 32, 64, False),
    (6, 64, 32, 128, False),
    (5, 128, 64, 256, False),
    (4, 256, 128, 512, False),
    (4, 512, 256, 512, True),
    (4, 512, 256, 512, True),
]
DECODER: list[Block] = [
    (4, 1024, 256, 512, True),
    (4, 1024, 128, 256, False),
    (5, 512, 64, 128, False),
    (6, 256, 32, 64, False),
    (7, 128, 16, 64, False),
]


class Graph:
    """Nodes and weights as they are added."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.rng = np.random.default_rng(seed)
        self.macs = 0

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """A node; the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any) -> str:
        """A constant's name."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(
        self, x: str, sizes: tuple[int, int], px: int, *, step: int = 1, k: int = 3, relu: bool = True
    ) -> str:
        """A convolution over px x px, dilated by `step`, with He's initial weights."""
        inputs, outputs = sizes
        shape = (outputs, inputs, k, k)
        weight = self.rng.normal(0, (2 / (inputs * k * k)) ** 0.5, shape).astype(np.float32)
        self.macs += weight.size * px * px
        names = [x, self.constant(weight), self.constant(np.zeros(outputs, np.float32))]
        y = self.add("Conv", names, kernel_shape=[k, k], pads=[step * (k // 2)] * 4, dilations=[step] * 2)
        return self.add("Relu", [y]) if relu else y

    def halved(self, x: str) -> str:
        """Max-pooled by two."""
        return self.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)

    def resized(self, x: str, factor: float) -> str:
        """Enlarged linearly."""
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        return self.add("Resize", [x, "", scales], mode="linear")

    def block(self, x: str, block: Block, px: int) -> str:
        """A U of convolutions within the U."""
        depth, inputs, inner, outputs, dilates = block
        top = self.conv(x, (inputs, outputs), px)
        y, at = self.conv(top, (outputs, inner), px), px
        skips = [(y, at)]
        for i in range(depth - 2):
            if not dilates:
                y, at = self.halved(y), at // 2
            y = self.conv(y, (inner, inner), at, step=2 ** (i + 1) if dilates else 1)
            skips.append((y, at))
        y = self.conv(y, (inner, inner), at, step=2 ** (depth - 1) if dilates else 2)
        for i, (skip, skip_px) in enumerate(reversed(skips)):
            if skip_px != at:
                y, at = self.resized(y, skip_px / at), skip_px
            last = i == len(skips) - 1
            y = self.add("Concat", [y, skip], axis=1)
            y = self.conv(
                y, (2 * inner, outputs if last else inner), at, step=2 ** (depth - 2 - i) if dilates else 1
            )
        return self.add("Add", [y, top])


def save(path: Path, *, px: int = 320, batch: int = 1, width: float = 1.0, seed: int = 0) -> float:
    """Write the network: f32 [batch 3 px px] -> seven maps f32 [batch 1 px px]; its GMAC an image.

    `width` is the share of u2net's channels: rembg's silueta, say, is a u2net with fewer.
    """

    def of(channels: int) -> int:
        return channels if channels == 3 else max(1, round(channels * width))

    encoder, decoder = (
        [(depth, of(given), of(inner), of(made), dilates) for depth, given, inner, made, dilates in blocks]
        for blocks in (ENCODER, DECODER)
    )
    graph = Graph(seed)
    x, at = "input", px
    maps = []
    for i, block in enumerate(encoder):
        x = graph.block(x, block, at)
        maps.append((x, at, block[3]))
        if i < len(encoder) - 1:
            x, at = graph.halved(x), at // 2
    sides = [maps[-1]]
    for block, (skip, skip_px, _) in zip(decoder, reversed(maps[:-1]), strict=True):
        x, at = graph.resized(x, skip_px / at), skip_px
        x = graph.block(graph.add("Concat", [x, skip], axis=1), block, at)
        sides.append((x, at, block[3]))
    scores = []
    for y, side, channels in reversed(sides):
        score = graph.conv(y, (channels, 1), side, relu=False)
        scores.append(score if side == px else graph.resized(score, px / side))
    fused = graph.conv(graph.add("Concat", scores, axis=1), (len(scores), 1), px, k=1, relu=False)
    shape = [batch, 1, px, px]
    outputs = [
        helper.make_tensor_value_info(f"d{i}", TensorProto.FLOAT, shape) for i in range(len(scores) + 1)
    ]
    for i, score in enumerate([fused, *scores]):
        graph.nodes.append(helper.make_node("Sigmoid", [score], [f"d{i}"]))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, px, px])
    made = helper.make_graph(graph.nodes, "u2net_form", [given], outputs, graph.weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return graph.macs / 1e9
