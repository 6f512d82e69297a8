import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from conftest import tiny_bert
from sightread.artifacts import Artifact
from sightread.errors import ArtifactError, ConfigError
from sightread.methods.weight_noise import add_noise
from sightread.modules.language_model import LanguageModel
from sightread.runtime import seed_everything


@pytest.fixture
def like(text_encoder_folder, tokenizer, tmp_path):
    """The start after some training, most of it in one layer, and none in another tensor."""
    seed_everything(3)
    model = transformers.BertForMaskedLM.from_pretrained(text_encoder_folder)
    for name, weight in model.named_parameters():
        weight.data += (0.0 if "layer.1.output.dense.bias" in name else 0.01) * torch.randn_like(weight)
    model.bert.encoder.layer[0].output.dense.weight.data += 0.5
    model.save_pretrained(tmp_path / "like")
    tokenizer.save_pretrained(tmp_path / "like")
    return tmp_path / "like"


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_each_tensor_goes_as_far_but_elsewhere(text_encoder_folder, like, tokenizer, tmp_path):
    out = add_noise(text_encoder_folder, like, tmp_path / "noise", seed=5)
    start, trained, noisy = weights(text_encoder_folder), weights(like), weights(out / "encoder")
    assert start.keys() == trained.keys() == noisy.keys()
    squares = 0.0
    for name, was in start.items():
        gone, moved = (x[name].double() - was.double() for x in (trained, noisy))
        assert float(moved.norm()) == pytest.approx(float(gone.norm()), rel=1e-5), name
        squares += float(gone.square().sum())
        if was.numel() > 200:
            assert abs(float((gone * moved).sum() / gone.norm() / moved.norm())) < 0.3, name
            z = moved.flatten() / moved.std()  # Gaussian: its fourth moment is 3
            assert float(z.mean()) == pytest.approx(0, abs=0.3)
            assert float((z**4).mean()) == pytest.approx(3, abs=1.5)
    assert torch.equal(noisy["bert.encoder.layer.1.output.dense.bias"], start["bert.encoder.layer.1.output.dense.bias"])
    report = json.loads((out / "manifest.json").read_text())["report"]
    assert report["distance"] == pytest.approx(squares**0.5, rel=1e-6)


def test_the_result_is_a_run_of_pretraining(text_encoder_folder, like, tokenizer, tmp_path):
    out = add_noise(text_encoder_folder, like, tmp_path / "noise")
    assert Artifact.open(out, "encoder").config == {"seed": 0}
    LanguageModel.from_pretrained(out / "encoder")
    ids = transformers.AutoTokenizer.from_pretrained(out / "encoder")("the red box")["input_ids"]
    assert ids == tokenizer("the red box")["input_ids"]
    again = add_noise(text_encoder_folder, out, tmp_path / "again")  # a run folder serves as well
    other = add_noise(text_encoder_folder, like, tmp_path / "other", seed=1)
    first, second, third = (weights(run / "encoder") for run in (out, again, other))
    assert all(torch.allclose(value, first[name], atol=1e-6) for name, value in second.items())
    assert not torch.allclose(
        third["bert.embeddings.word_embeddings.weight"], first["bert.embeddings.word_embeddings.weight"], atol=1e-3
    )
    with pytest.raises(ArtifactError, match="already holds a finished encoder"):
        add_noise(text_encoder_folder, like, out)
    assert add_noise(text_encoder_folder, like, out, overwrite=True) == out
    before = (out / "encoder" / "model.safetensors").stat().st_mtime_ns
    assert add_noise(text_encoder_folder, like, out, resume=True) == out
    assert (out / "encoder" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ArtifactError, match="begun with another like"):
        add_noise(text_encoder_folder, text_encoder_folder, out, resume=True)


def test_another_model_is_refused(text_encoder_folder, tokenizer, tmp_path):
    transformers.BertForMaskedLM(tiny_bert(len(tokenizer), num_hidden_layers=3)).save_pretrained(tmp_path / "deeper")
    transformers.BertForMaskedLM(tiny_bert(len(tokenizer) + 1)).save_pretrained(tmp_path / "larger")
    for name, message in {"deeper": r"encoder\.encoder\.layer\.2", "larger": "word_embeddings"}.items():
        with pytest.raises(ConfigError, match=rf"was not trained from .*{message}"):
            add_noise(text_encoder_folder, tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    Artifact.begin(tmp_path / "unfinished", "encoder")
    with pytest.raises(ArtifactError, match="unfinished"):
        add_noise(text_encoder_folder, tmp_path / "unfinished", tmp_path / "out")
