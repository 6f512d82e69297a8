import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from sightread.encoders.image import ImageEncoder, build_small_image_encoder
from sightread.errors import ArtifactError, ConfigError
from sightread.runtime import data_root

VIT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9}
CONFIGS = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"},
    "mobilenet_v2": {"image_size": 32, "depth_multiplier": 0.25},
    "vit": VIT,
    "dinov2": VIT,
    "clip": {"vision_config": VIT, "text_config": TEXT, "projection_dim": 10},
    "siglip": {"vision_config": VIT, "text_config": TEXT},
}
PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tiny(kind):
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **CONFIGS[kind])).eval()


def tower(model):
    return getattr(model, "vision_model", model)


def encode(model, pooling):
    with torch.no_grad():
        return ImageEncoder(model, None, pooling)(PIXELS).numpy()


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (4, 2, 2), (8, 2, 4), (7, 1, 7)])
@pytest.mark.parametrize("kind", CONFIGS)
def test_regions_are_means_of_parts_of_the_map(kind, count, rows, columns):
    model = tiny(kind)
    with torch.no_grad():
        states = tower(model)(pixel_values=PIXELS).last_hidden_state.double().numpy()
    if states.ndim == 3:  # patches of a square, after [CLS] perhaps
        side = {16: 4, 17: 4}[states.shape[1]]
        states = states[:, -side * side :].swapaxes(1, 2).reshape(len(states), -1, side, side)
    height, width = states.shape[2:]

    def part(i, parts, whole):
        return slice(i * whole // parts, -(-(i + 1) * whole // parts))

    cells = [states[:, :, part(r, rows, height), part(c, columns, width)] for r in range(rows) for c in range(columns)]
    expected = np.concatenate([cell.mean(axis=(2, 3)) for cell in cells], axis=1)
    np.testing.assert_allclose(encode(model, f"regions-{count}"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_mean_is_the_mean_of_the_last_map_or_states(kind):
    model = tiny(kind)
    with torch.no_grad():
        states = tower(model)(pixel_values=PIXELS).last_hidden_state.double().numpy()
    if kind in ("resnet", "mobilenet_v2"):  # (B, F, H, W)
        states = states.reshape(*states.shape[:2], -1).swapaxes(1, 2)
    expected = np.stack([[column.sum() / len(picture) for column in picture.T] for picture in states])
    np.testing.assert_allclose(encode(model, "mean"), expected, rtol=1e-4, atol=1e-5)


def own_feature(model, kind):
    """What the model's makers call the feature of a picture, put together by hand."""
    output = tower(model)(pixel_values=PIXELS)
    if kind == "clip":
        return output.pooler_output @ model.visual_projection.weight.T
    if kind in ("resnet", "mobilenet_v2"):
        return output.last_hidden_state.mean(dim=(2, 3))
    if kind == "vit":
        return torch.tanh(model.pooler.dense(output.last_hidden_state[:, 0]))
    if kind == "dinov2":
        return output.last_hidden_state[:, 0]
    return model.vision_model.head(output.last_hidden_state)  # SigLIP pools by attention


@pytest.mark.parametrize(("kind", "width"), zip(CONFIGS, [12, 1280, 16, 16, 10, 16], strict=True))
def test_pooled_is_what_the_model_calls_its_feature(kind, width):
    model = tiny(kind)
    with torch.no_grad():
        expected = own_feature(model, kind).numpy()
    features = encode(model, "pooled")
    assert features.shape == (3, width)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_a_model_without_a_pooler_gives_its_mean():
    config = transformers.AutoConfig.for_model("vit", **VIT)
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    np.testing.assert_array_equal(encode(model, "pooled"), encode(model, "mean"))


def test_an_unknown_pooling_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'pooled'"):
        ImageEncoder(tiny("resnet"), None, "poled")


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(256, size=(24, 24, 3), dtype=np.uint8)) for _ in range(4)]


def test_the_small_encoder_scales_pixels_and_keeps_their_size(images):
    encoder = build_small_image_encoder(24, (8, 12)).eval()
    pixels = encoder.preprocess(images)
    expected = np.stack([np.asarray(image).transpose(2, 0, 1) / 127.5 - 1 for image in images])
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-5)
    assert encoder(pixels).shape == (4, 12)


@pytest.mark.parametrize("pooling", ["pooled", "mean"])
def test_a_saved_encoder_gives_the_same_features(images, tmp_path, pooling):
    encoder = build_small_image_encoder(24, (8, 12)).eval()
    encoder.save_pretrained(tmp_path)
    loaded = ImageEncoder.from_pretrained(tmp_path, pooling).eval()
    assert loaded.pooling == pooling
    with torch.no_grad():
        torch.testing.assert_close(loaded(loaded.preprocess(images)), encoder(encoder.preprocess(images)))


def test_missing_or_incomplete_folders_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="missing"):
        ImageEncoder.from_pretrained(tmp_path / "missing")
    tiny("resnet").save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="image processor"):
        ImageEncoder.from_pretrained(tmp_path)


def cropping_encoder(folder):
    """A saved encoder whose processor cuts a square of 16 out of the centre of pictures 24 high."""
    from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import MobileNetV2ImageProcessorPil

    processor = MobileNetV2ImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 16, "width": 16})
    ImageEncoder(tiny("resnet"), processor).save_pretrained(folder)
    return folder


def test_views_of_a_picture(tmp_path):
    picture = Image.new("RGB", (48, 24), "black")
    picture.paste("white", (0, 0, 12, 24))  # a white strip on the left, which the centre does not show
    folder = cropping_encoder(tmp_path)
    encoders = {view: ImageEncoder.from_pretrained(folder, view=view).eval() for view in ("crop", "whole", "both")}
    pixels = {view: encoder.preprocess([picture, picture.rotate(180)]) for view, encoder in encoders.items()}
    assert pixels["crop"].shape == pixels["whole"].shape == (2, 3, 16, 16)
    assert len(pixels["crop"].unique()) == 1
    assert pixels["whole"][0, 0, :, 0].min() > pixels["whole"][0, 0, :, 15].max()
    with torch.no_grad():
        features = {view: encoder(pixels[view]) for view, encoder in encoders.items()}
    torch.testing.assert_close(features["both"], torch.cat([features["crop"], features["whole"]], dim=1))
    assert len({encoder.digest for encoder in encoders.values()}) == 3


def test_both_views_of_an_encoder_that_cuts_nothing_are_refused(tmp_path):
    build_small_image_encoder(24, (8, 12)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"view=both: .* cuts nothing away"):
        ImageEncoder.from_pretrained(tmp_path, view="both")


def test_the_digest_covers_weights_preprocessing_and_pooling(tmp_path):
    build_small_image_encoder(24, (8, 12)).save_pretrained(tmp_path)
    encoders = [ImageEncoder.from_pretrained(tmp_path, pooling) for pooling in ("pooled", "pooled", "mean", "pooled")]
    next(encoders[1].parameters()).data[0] += 1
    encoders[3].processor.image_mean = [0.4] * 3
    assert len({encoder.digest for encoder in encoders}) == 4
    assert ImageEncoder.from_pretrained(tmp_path).digest == encoders[0].digest


@pytest.mark.realdata
def test_mobilenet_tells_its_pictures_apart():
    encoder = ImageEncoder.from_pretrained(data_root() / "models" / "mobilenet-v2-1.0-224").eval()
    grey, noise = Image.new("RGB", (300, 200), "grey"), Image.effect_noise((300, 200), 90).convert("RGB")
    with torch.no_grad():
        features = encoder(encoder.preprocess([grey, noise, grey]))
    assert features.shape == (3, 1280)
    torch.testing.assert_close(features[0], features[2])
    assert torch.nn.functional.cosine_similarity(features[0], features[1], dim=0) < 0.9
