from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from configs.errors import UserError
from preprocess import networks
from preprocess.networks import batched, open_network, side_by_side

SIDE = 32


def save(path: Path, *, batch: int | str = 1, side: int | str = SIDE, baked: bool = False) -> Path:
    """A convolution and a sigmoid; `baked` passes a reshape that only ever holds one image."""
    weight = np.random.default_rng(1).normal(0, 0.4, (2, 3, 5, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["sum"], pads=[2] * 4),
        helper.make_node("Sigmoid", ["sum"], ["map"]),
    ]
    constants = [numpy_helper.from_array(weight, "weight")]
    if baked:
        shape = numpy_helper.from_array(np.array([1, 3, SIDE, SIDE]), "shape")
        constants.append(shape)
        nodes.insert(0, helper.make_node("Reshape", ["image", "shape"], ["one"]))
        nodes[1].input[0] = "one"
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [batch, 2, side, side])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, SIDE, SIDE, 3), np.float32)


def test_the_numbers_are_those_of_the_bare_session(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx")
    given = images(1)
    bare = onnxruntime.InferenceSession(path).run(None, {"image": given.transpose(0, 3, 1, 2)})[0]
    np.testing.assert_array_equal(open_network(path, "cpu")(given), bare)


def test_the_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx")
    assert open_network(path, "cpu").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_in_a_file_of_their_own_count_too(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    model = onnx.load(save(path))
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location="a.onnx.data",
        size_threshold=0,
        convert_attribute=True,
    )
    before = open_network(path, "cpu").sha256
    content = bytearray((tmp_path / "a.onnx.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "a.onnx.data").write_bytes(content)
    assert open_network(path, "cpu").sha256 != before


@pytest.mark.parametrize("batch", [1, "n"])
def test_a_batch_dimension_that_nothing_needs_is_freed(tmp_path: Path, batch: int | str) -> None:
    path = save(tmp_path / "a.onnx", batch=batch)
    one = open_network(path, "cpu")
    many = batched(one, path, "cpu", most=4)
    assert (one.batch, many.batch) == (1, 4)
    given = images(3)
    alone = np.concatenate([one(given[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(many(given), alone, atol=1e-6)


def test_a_batch_dimension_baked_into_the_graph_stays(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", baked=True)
    one = open_network(path, "cpu")
    assert batched(one, path, "cpu", most=4) == one


def test_channels_may_come_last(tmp_path: Path) -> None:
    path = tmp_path / "last.onnx"
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["map"])],
        "last",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 8, 6, 3])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 8, 6, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    network = open_network(path, "cpu")
    given = np.random.default_rng(0).random((1, 8, 6, 3), np.float32)
    assert network.size == (8, 6)
    np.testing.assert_array_equal(network(given), given.transpose(0, 3, 1, 2))


def test_cuda_without_cuda_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.onnx")
    # On a machine with a GPU the promise is kept, and on one without it must not be made.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="onnxruntime-gpu"):
        open_network(path, "cuda")
    assert open_network(path, "auto").providers == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("made", "arguments", "message"),
    [
        ({"side": "s"}, {}, "segment.size=320"),
        ({}, {"size": (64, 64)}, "fixed at 32x32"),
        ({}, {"output": 3}, "no output 3; it has 1: map"),
        ({}, {"output": "mapp"}, 'did you mean "map"'),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, made: dict, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_network(save(tmp_path / "a.onnx", **made), "cpu", **arguments)


def test_a_free_size_is_what_the_setting_says(tmp_path: Path) -> None:
    assert open_network(save(tmp_path / "a.onnx", side="s"), "cpu", size=(48, 64)).size == (48, 64)


def test_no_file_and_no_network_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"segment\.path=FILE"):
        open_network(tmp_path / "none.onnx", "cpu")
    text = tmp_path / "text.onnx"
    text.write_text("not a network")
    with pytest.raises(UserError, match="can't open it as a network"):
        open_network(text, "cpu")


def test_an_input_that_is_no_image_is_told(tmp_path: Path) -> None:
    path = tmp_path / "flat.onnx"
    graph = helper.make_graph(
        [helper.make_node("Identity", ["row"], ["map"])],
        "flat",
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(UserError, match="four dimensions"):
        open_network(path, "cpu")


def test_lanes_are_bounded_by_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "cores", lambda: 16)
    assert open_network(save(tmp_path / "a.onnx"), "cpu").lanes == 16
    assert open_network(save(tmp_path / "b.onnx", side="s"), "cpu", size=(1024, 1024)).lanes == 1


def test_side_by_side_keeps_the_order() -> None:
    assert side_by_side(lambda n: n * n, range(50), lanes=4) == [n * n for n in range(50)]
