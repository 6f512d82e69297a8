import json
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from sightread.data.given_boxes import GivenBoxes
from sightread.encoders.detectors import HuggingFaceDetector, load_detector
from sightread.encoders.onnx_detector import OnnxDetector, decode_grid, nms
from sightread.errors import ArtifactError, ConfigError, MissingExtra
from sightread.runtime import data_root

rng = np.random.default_rng(0)
IMAGES = [Image.fromarray(rng.integers(256, size=(h, w, 3), dtype=np.uint8)) for h, w in ((30, 60), (64, 32), (48, 48))]


def naive_iou(a, b):
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(across, 0) * max(down, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


@pytest.mark.parametrize("kinds", [1, 3])
def test_of_overlapping_boxes_the_best_stays(kinds):
    for count in range(40):
        boxes = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)
        scores, classes = rng.integers(9, size=count) / 9, rng.integers(kinds, size=count)
        kept = []
        for i in sorted(range(count), key=lambda i: (-scores[i], i)):
            if all(classes[j] != classes[i] or naive_iou(boxes[i], boxes[j]) <= 0.3 for j in kept):
                kept.append(i)
        assert nms(boxes, scores, classes, 0.3).tolist() == kept


def test_a_cell_of_the_grid_is_a_box():
    cells = rng.random((5 + 3, 2, 4))
    boxes, scores, classes = decode_grid(cells, 0.6, 0.4)
    for row in range(2):
        for column in range(4):
            o, x, y, w, h, *probabilities = cells[:, row, column]
            x, y = (column + np.tanh(x)) / 4, (row + np.tanh(y)) / 2
            w, h = 1 / (1 + np.exp(-w)), 1 / (1 + np.exp(-h))
            i = row * 4 + column
            np.testing.assert_allclose(boxes[i], [x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            assert scores[i] == pytest.approx(o**0.6 * max(probabilities) ** 0.4)
            assert classes[i] == probabilities.index(max(probabilities))


# ONNX files by hand: protocol buffers of a graph that gives constants, whatever it is given


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def described(name, shape):
    dims = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def onnx_of(input_shape, outputs):
    """A model that takes "x" and gives the named float arrays."""
    parts = []
    for name, array in outputs.items():
        dims = b"".join(field(1, size) for size in array.shape)
        constant = dims + field(2, 1) + field(8, f"{name}_") + field(9, array.astype("<f4").tobytes())
        parts += [field(5, constant), field(1, field(1, f"{name}_") + field(2, name) + field(4, "Identity"))]
        parts.append(field(12, described(name, array.shape)))
    graph = field(2, "constants") + field(11, described("x", input_shape)) + b"".join(parts)
    return field(1, 8) + field(8, field(2, 13)) + field(7, graph)


INPUT = {"name": "x", "shape": [1, 3, 4, 8], "channels": "RGB", "scale": "pixel/255", "resize": "stretch"}
GRID = {
    "score": "objectness**0.6 * max(class)**0.4", "centre": "tanh", "size": "sigmoid", "score_threshold": 0.3,
    "nms_iou": 0.5,
}  # fmt: skip
ARRAYS = {
    "boxes": "b", "scores": "s", "classes": "c", "box": "xyxy", "unit": "pixel", "score_threshold": 0.5, "nms_iou": 0.4
}  # fmt: skip
CORNERS = np.array([[0, 0, 4, 2], [0, 0, 4, 1.9], [1, 1, 5, 3], [0, 0, 4, 2.1]], np.float32)  # of 8 x 4 pixels
OUTPUTS = {"b": CORNERS, "s": np.array([0.6, 0.9, 0.4, 0.7]), "c": np.array([1, 0, 0, 1])}


def folder_of(path, decode, outputs, taken=INPUT, names="dog\ncat\n"):
    path.mkdir()
    (path / "model.onnx").write_bytes(onnx_of(INPUT["shape"], outputs))
    (path / "meta.json").write_text(json.dumps({"input": taken, "decode": decode}))
    (path / "own.names").write_text(names)
    return path


def test_a_grid_is_read(tmp_path):
    pytest.importorskip("onnxruntime")
    cells = np.full((1, 7, 2, 2), 0.1)
    cells[0, :, 0, 1], cells[0, :, 1, 0] = [0.9, 0, 0, 0, 0, 0.2, 0.8], [0.5, 0, 0, 0, 0, 0.9, 0.1]
    found = load_detector(folder_of(tmp_path / "d", GRID, {"out": cells}))(IMAGES[:2], ["", ""])
    for one in found:
        np.testing.assert_allclose(one.boxes, [[0.25, -0.25, 0.75, 0.25], [-0.25, 0.25, 0.25, 0.75]], atol=1e-6)
        assert one.tags == ["cat", "dog"]
        np.testing.assert_allclose(one.scores, [0.9**0.6 * 0.8**0.4, 0.5**0.6 * 0.9**0.4], rtol=1e-5)


SIDES = CORNERS[:, 2:] - CORNERS[:, :2]
FORMS = {
    "corners": ({}, {}), "batch": ({}, {name: array[None] for name, array in OUTPUTS.items()}),
    "sides": ({"box": "xywh"}, {"b": np.concatenate([CORNERS[:, :2], SIDES], 1)}),
    "centres": ({"box": "cxcywh"}, {"b": np.concatenate([CORNERS[:, :2] + SIDES / 2, SIDES], 1)}),
    "shares": ({"unit": "share"}, {"b": CORNERS / [8, 4, 8, 4]}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_arrays_are_read_in_every_form(tmp_path, form):
    pytest.importorskip("onnxruntime")
    decode, outputs = FORMS[form]
    one = OnnxDetector(folder_of(tmp_path / "d", ARRAYS | decode, OUTPUTS | outputs))(IMAGES[:1], [""])[0]
    np.testing.assert_allclose(one.boxes, CORNERS[[1, 3]] / [8, 4, 8, 4], atol=1e-6)
    assert one.tags == ["dog", "cat"]
    np.testing.assert_allclose(one.scores, [0.9, 0.7], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "threshold", "kept"),
    [({"nms": "all"}, None, [1]), ({"nms_iou": 1.0}, None, [1, 3, 0]), ({}, 0.3, [1, 3, 2]), ({}, 0.95, [])],
)
def test_overlap_and_threshold_are_as_asked_for(tmp_path, changes, threshold, kept):
    pytest.importorskip("onnxruntime")
    folder = folder_of(tmp_path / "d", ARRAYS | changes, OUTPUTS)
    one = OnnxDetector(folder, threshold)(IMAGES[:1], [""])[0]
    np.testing.assert_allclose(one.scores, OUTPUTS["s"][kept].astype(np.float32))
    assert OnnxDetector(folder, threshold).digest != OnnxDetector(folder, 0.123).digest


def test_without_classes_the_best_score_names_it(tmp_path):
    pytest.importorskip("onnxruntime")
    decode = {name: value for name, value in ARRAYS.items() if name not in ("classes", "nms_iou")}
    scores = np.array([[0.1, 0.6], [0.9, 0.2], [0.3, 0.4], [0.2, 0.7]])
    one = OnnxDetector(folder_of(tmp_path / "d", decode, OUTPUTS | {"s": scores}))(IMAGES[:1], [""])[0]
    assert one.tags == ["dog", "cat", "cat"]
    np.testing.assert_allclose(one.scores, [0.9, 0.7, 0.6], rtol=1e-6)


def test_pixels_are_given_as_asked_for(tmp_path):
    pytest.importorskip("onnxruntime")
    taken = INPUT | {"channels": "BGR", "scale": "pixel", "mean": [1, 2, 3], "std": [4, 5, 6]}
    seen, detector = [], OnnxDetector(folder_of(tmp_path / "d", ARRAYS, OUTPUTS, taken))
    real = detector._session
    detector._session = type("Spy", (), {"run": lambda _, names, given: seen.append(given) or real.run(names, given)})()
    detector([Image.new("RGB", (20, 30), (10, 20, 30))], [""])
    blue, green, red = seen[0]["x"][0]
    assert (seen[0]["x"].shape, seen[0]["x"].dtype) == ((1, 3, 4, 8), np.float32)
    np.testing.assert_allclose(blue, (30 - 1) / 4)
    np.testing.assert_allclose(green, (20 - 2) / 5, rtol=1e-6)
    np.testing.assert_allclose(red, (10 - 3) / 6, rtol=1e-6)


FAULTS = {
    "channels": (INPUT | {"channels": "rgb"}, ARRAYS, "channels is 'rgb'"),
    "resize": (INPUT | {"resize": "letterbox"}, ARRAYS, "resize is 'letterbox'"),
    "no scale": ({k: v for k, v in INPUT.items() if k != "scale"}, ARRAYS, "meta.json lacks 'scale'"),
    "box": (INPUT, ARRAYS | {"box": "yxyx"}, "box is 'yxyx'"),
    "formula": (INPUT, GRID | {"centre": "sigmoid"}, "neither arrays nor a grid"),
    "score": (INPUT, GRID | {"score": "objectness"}, "neither arrays nor a grid"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_known_is_refused(tmp_path, fault):
    taken, decode, message = FAULTS[fault]
    with pytest.raises(ConfigError, match=message):
        OnnxDetector(folder_of(tmp_path / "d", decode, OUTPUTS, taken))


def test_what_is_missing_is_told(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "d", ARRAYS, OUTPUTS)
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingExtra, match=r"sightread\[onnx\]"):
            OnnxDetector(folder)
    pytest.importorskip("onnxruntime")
    (folder / "model.onnx").write_bytes(b"torn")
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be loaded"):
        OnnxDetector(folder)
    (folder / "own.names").unlink()
    with pytest.raises(ArtifactError, match=r"0 files \*.names"):
        OnnxDetector(folder)


@pytest.fixture(scope="module")
def yolos_folder(tmp_path_factory):
    from transformers import YolosConfig, YolosForObjectDetection
    from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 32],
        patch_size=8, num_detection_tokens=6, id2label={0: "dog", 1: "cat"}, initializer_range=0.5,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("yolos")
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessorPil(size={"height": 32, "width": 32}, do_pad=False).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_a_detector_of_transformers(yolos_folder, threshold):
    detector = HuggingFaceDetector.from_pretrained(yolos_folder, threshold)
    pixels = detector.processor(IMAGES, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = detector.model(pixel_values=pixels)
    sure, names = output.logits.double().softmax(-1).numpy()[..., :-1], ["dog", "cat"]
    for found, probabilities, boxes in zip(detector(IMAGES, ["", "", ""]), sure, output.pred_boxes, strict=True):
        rows = [i for i in np.argsort(-probabilities.max(1)) if probabilities[i].max() > threshold]
        x, y, w, h = boxes.numpy()[rows].T
        np.testing.assert_allclose(found.boxes, np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1), atol=1e-5)
        np.testing.assert_allclose(found.scores, probabilities[rows].max(1), rtol=1e-4)
        assert found.tags == [names[i] for i in probabilities[rows].argmax(1)]
    assert len(detector(IMAGES[:1], [""])[0].tags) > 0 or threshold > 0.2


def test_a_detector_is_known_by_where_it_lies(yolos_folder, world_folder, tmp_path):
    assert isinstance(load_detector(yolos_folder), HuggingFaceDetector)
    assert load_detector(yolos_folder, 0.1).digest != load_detector(yolos_folder, 0.2).digest
    assert isinstance(load_detector(world_folder / "regions.jsonl"), GivenBoxes)
    with pytest.raises(ConfigError, match="have no scores"):
        load_detector(world_folder / "regions.jsonl", 0.5)
    with pytest.raises(ArtifactError, match="no model folder"):
        load_detector(tmp_path / "nowhere")


@pytest.mark.realdata
def test_fastestdet_finds_what_is_there():
    """As many of COCO's things, and no more that are not there, than the makers of this folder found."""
    detector = load_detector(data_root() / "models" / "fastestdet-coco")
    folder, counts = data_root() / "data" / "coco-small", Counter()
    given = GivenBoxes(folder / "coco_small.jsonl")
    for path in sorted((folder / "images").iterdir())[:160]:
        truth = given([], [path.name])[0]
        if truth is None:
            continue
        found, free = detector([Image.open(path).convert("RGB")], [path.name])[0], set(range(len(truth.tags)))
        for box, tag in zip(found.boxes, found.tags, strict=True):
            fits = [i for i in free if truth.tags[i] == tag and naive_iou(box, truth.boxes[i]) >= 0.5]
            free -= set(fits[:1])
            counts["right"] += bool(fits)
        counts["found"] += len(found.tags)
        counts["there"] += len(truth.tags)
    assert counts["right"] / counts["found"] > 0.5, counts
    assert counts["right"] / counts["there"] > 0.15, counts


def test_a_picture_is_seen_alike_in_any_company(yolos_folder):
    from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

    model = HuggingFaceDetector.from_pretrained(yolos_folder).model
    uneven = YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64})  # pads a batch to its widest
    detector = HuggingFaceDetector(model, uneven, 0.1)
    square, wide = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (80, 40), "blue")
    (alone,), (beside, _) = detector([square], [""]), detector([square, wide], ["", ""])
    assert len(alone.tags) > 0
    np.testing.assert_array_equal(beside.boxes, alone.boxes)
