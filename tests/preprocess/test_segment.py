from __future__ import annotations

import hashlib
import socket
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx as onnx_format
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from configs.errors import UserError
from configs.settings import schema_of
from preprocess.forms import REMBG, Form, finish, prepare
from preprocess.segment import SEGMENTERS, grabcut, onnx, rembg


def save(
    path: Path, *, side: int, batch: int | str = 1, outputs: int = 1, logits: bool = False, extra: str = ""
) -> Path:
    """A network in u2net's form with random weights: edges and colours, blurred to blobs; several outputs."""
    rng = np.random.default_rng(7)
    size = [batch, 1, side, side]
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["edges"], pads=[2] * 4, strides=[2, 2]),
        helper.make_node("Tanh", ["edges"], ["bent"]),
        helper.make_node("AveragePool", ["bent"], ["blobs"], kernel_shape=[9, 9], pads=[4] * 4),
        helper.make_node("Conv", ["blobs", "second"], ["sum"]),
        helper.make_node("Resize", ["sum", "", "twice"], ["large"], mode="linear"),
    ]
    named = [f"d{i}" for i in range(outputs)]
    nodes += [helper.make_node("Identity" if logits else "Sigmoid", ["large"], [name]) for name in named]
    constants = [
        numpy_helper.from_array(rng.normal(0, 0.3, (6, 3, 5, 5)).astype(np.float32), "first"),
        numpy_helper.from_array(rng.normal(0, 3, (1, 6, 1, 1)).astype(np.float32), "second"),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"),
    ]
    graph = helper.make_graph(
        nodes,
        "small" + extra,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in named],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx_format.save(model, path)
    return path


def echo(path: Path, *, channels: int = 3, side: int = 16) -> Path:
    """A network that gives back what it is given."""
    shape = ["n", channels, side, side]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["map"])],
        "echo",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx_format.save(model, path)
    return path


def scenes(count: int, height: int = 224, width: int = 224) -> np.ndarray:
    """Crops u8 [n h w 3] with large soft shapes and some grain."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (count, height, width, 3)).astype(np.float32)
    soft = np.zeros_like(noise)
    for i, each in enumerate(noise):
        soft[i] = cv2.GaussianBlur(each, (0, 0), 20)
    soft /= max(float(soft.std()), 1e-6) if count else 1
    return (128 + 50 * soft + 6 * noise).clip(0, 255).astype(np.uint8)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


# rembg --------------------------------------------------------------------------------------------------


def of_rembg(model: str, crops: np.ndarray, **settings: Any) -> np.ndarray:
    from rembg import new_session, remove

    session = new_session(model, **settings)
    return np.stack(
        [np.asarray(remove(Image.fromarray(crop), only_mask=True, session=session)) for crop in crops]
    )


def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == np.uint8
    assert theirs.std() > 20, "a mask without contrast proves nothing"
    assert np.abs(ours.astype(float) - theirs).mean() / 255 <= 0.01
    assert iou(ours >= 128, theirs >= 128) >= 0.99


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("batch", [1, "n"])
@pytest.mark.parametrize("model", ["u2net_custom", "dis_custom", "ben_custom"])
def test_a_file_of_yours_gives_rembgs_masks(home: Path, model: str, batch: int | str) -> None:
    path = save(home / "mine.onnx", side=REMBG[model][1], batch=batch, outputs=3)
    crops = scenes(2)
    ours = rembg("cpu", model=model, path=str(path)).cut(crops, [None] * 2)
    agree(ours, of_rembg(model, crops, model_path=str(path)))


@pytest.mark.parametrize("model", [name for name in REMBG if not name.endswith("_custom")])
def test_a_model_of_rembgs_gives_rembgs_masks(home: Path, model: str) -> None:
    folder = home / "models" / model
    folder.mkdir(parents=True)
    save(folder / f"{model}.onnx", side=REMBG[model][1], logits=model.startswith("birefnet"))
    crops = scenes(1, 160, 120)
    segmenter = rembg("cpu", model=model)
    agree(segmenter.cut(crops, [None]), of_rembg(model, crops))
    assert segmenter.identity["model"] == model


def test_dark_photos_are_brightened_as_rembg_does(home: Path) -> None:
    path = save(home / "mine.onnx", side=320)
    crops = scenes(2) // 5
    ours = rembg("cpu", model="u2net_custom", path=str(path)).cut(crops, [None] * 2)
    agree(ours, of_rembg("u2net_custom", crops, model_path=str(path)))


def test_all_of_rembgs_models_are_known_or_refused() -> None:
    """A model that rembg adds one day still runs, by its own `predict`; this test then asks for its form."""
    from rembg.sessions import sessions

    from preprocess.segment import NO_FIGURE

    local = {name for name, kind in sessions.items() if kind.is_local()}
    assert local == set(REMBG) | set(NO_FIGURE)


def test_a_model_without_a_form_runs_by_rembgs_own_predict(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from preprocess import segment

    folder = home / "models" / "u2netp"
    folder.mkdir(parents=True)
    path = save(folder / "u2netp.onnx", side=320)
    monkeypatch.setattr(segment, "REMBG", {})
    crops = scenes(2)
    segmenter = rembg("cpu", model="u2netp")
    np.testing.assert_array_equal(segmenter.cut(crops, [None] * 2), of_rembg("u2netp", crops))
    assert segmenter.identity["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_offline_and_absent_names_both_ways_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setattr(socket, "create_connection", offline)
    with pytest.raises(UserError) as caught:
        rembg("cpu")
    text = str(caught.value)
    assert str(home / "models" / "u2net_human_seg" / "u2net_human_seg.onnx") in text
    for way in ("rembg d u2net_human_seg", "--segmenter onnx --set segment.path=FILE", "--segmenter grabcut"):
        assert way in text
    assert not list(home.rglob("*.onnx"))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "u2net_human_sec"}, 'did you mean "u2net_human_seg"'),
        ({"model": "sam"}, "needs points"),
        ({"model": "withoutbg"}, "sends the photos to a service"),
        ({"model": "u2net_custom"}, r"segment\.path=FILE"),
        ({"model": "u2net", "path": "x.onnx"}, "u2net_custom"),
        ({"model": "u2net_custom", "path": "/nowhere/x.onnx"}, "no such file"),
    ],
)
def test_what_rembg_cannot_do_is_told(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rembg("cpu", **settings)


def test_rembg_is_imported_only_when_asked_for() -> None:
    import subprocess

    heavy = ("rembg", "torch", "onnxruntime")
    code = f"import sys, preprocess.segment; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# onnx ---------------------------------------------------------------------------------------------------


def test_the_settings_reach_the_network(tmp_path: Path) -> None:
    """A network that echoes its input shows what it was given."""
    path = echo(tmp_path / "echo.onnx")
    crops = np.zeros((1, 16, 16, 3), np.uint8)
    crops[..., 0], crops[..., 1], crops[..., 2] = 51, 102, 204
    settings: dict[str, Any] = {"path": str(path), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.4, 0.8)}
    expected = [(0.2 - 0.1) / 0.5, (0.4 - 0.2) / 0.4, (0.8 - 0.3) / 0.8]
    for channel, value in enumerate(expected):
        alpha = onnx("cpu", channel=channel, **settings).cut(crops, [None])
        assert (alpha == round(value * 255)).all()
    blue_first = onnx("cpu", path=str(path), order="bgr", scale=510.0).cut(crops, [None])
    assert (blue_first == 102).all()


@pytest.mark.parametrize("rule", ["probability", "logits", "softmax", "minmax", "logits_minmax"])
def test_rules_are_what_they_say(rule: str) -> None:
    numbers = np.random.default_rng(0).normal(0, 3, (3, 20, 20)).astype(np.float32)
    one = numbers[1].astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-one))
    raised = np.exp(numbers.astype(np.float64))
    truth = {
        "probability": one.clip(0, 1),
        "logits": sigmoid,
        "softmax": raised[1] / raised.sum(0),
        "minmax": (one - one.min()) / (one.max() - one.min()),
        "logits_minmax": (sigmoid - sigmoid.min()) / (sigmoid.max() - sigmoid.min()),
    }[rule]
    ours = finish(numbers, Form(rule=rule, channel=1), (20, 20))  # type: ignore[arg-type]
    assert np.abs(ours - truth * 255).max() <= 0.51


@pytest.mark.parametrize("value", [0.0, 0.7, np.nan])
def test_a_flat_or_broken_map_is_an_empty_mask(value: float) -> None:
    numbers = np.full((1, 8, 8), value, np.float32)
    assert (finish(numbers, Form(rule="minmax"), (4, 4)) == 0).all()


def test_what_goes_in_is_exact() -> None:
    crop = scenes(1, 40, 30)[0]
    form = Form((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), scale=None)
    exact = ((crop / crop.max() - form.mean) / form.std).astype(np.float32)
    np.testing.assert_array_equal(prepare(crop, form, (40, 30)), exact)


def test_a_crop_does_not_depend_on_its_company(portrait_network: Path) -> None:
    crops = scenes(7)
    segmenter = onnx("cpu", path=str(portrait_network))
    together = segmenter.cut(crops, [None] * 7)
    for i in range(7):
        np.testing.assert_array_equal(segmenter.cut(crops[i : i + 1], [None])[0], together[i])


def test_the_identity_is_the_file_and_the_settings_not_the_place(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a.onnx", side=32), save(tmp_path / "b.onnx", side=32)
    other = save(tmp_path / "c.onnx", side=32, extra="er")
    identities = [onnx("cpu", path=str(path)).identity for path in (first, second, other)]
    assert identities[0] == identities[1] != identities[2]
    assert onnx("cpu", path=str(first), mean=(0.5, 0.5, 0.5)).identity != identities[0]
    assert onnx("cpu", path=str(first)).made_with["providers"] == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no network given"),
        ({"path": "/nowhere/a.onnx"}, "no such file"),
        ({"std": (0.0, 1.0, 1.0)}, "above 0"),
        ({"channel": 3}, "3 channels"),
    ],
)
def test_what_onnx_cannot_do_is_told(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    path = echo(tmp_path / "echo.onnx")
    given = settings if settings in ({}, {"path": "/nowhere/a.onnx"}) else {"path": str(path), **settings}
    with pytest.raises(UserError, match=message):
        onnx("cpu", **given)


# all ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenters_settings_have_a_schema(name: str) -> None:
    assert schema_of(SEGMENTERS[name]).model_fields


@pytest.mark.parametrize("shape", [(224, 224), (97, 64), (1, 1), (3, 200)])
def test_any_shape_and_no_crops_at_all(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = str(save(tmp_path / "a.onnx", side=320))
    segmenters = [onnx("cpu", path=path), rembg("cpu", model="u2net_custom", path=path), grabcut("cpu")]
    for segmenter in segmenters:
        for count in (0, 2):
            alphas = segmenter.cut(scenes(count, *shape), [None] * count)
            assert alphas.shape == (count, *shape)
            assert alphas.dtype == np.uint8
