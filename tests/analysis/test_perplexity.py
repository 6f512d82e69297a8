import math

import numpy as np
import pytest
import torch

from sightread.analysis.perplexity import perplexity
from sightread.contracts import IGNORED
from sightread.data.captioned import MaskedCaptions
from sightread.encoders.text import load_tokenizer
from sightread.grounded import GroundingConfig, GroundingObjective
from sightread.modules.language_model import LanguageModel
from sightread.runtime import keyed_rng

N, F = 2, 3


@pytest.fixture(scope="module")
def model(text_encoder_folder):
    features = keyed_rng(0).standard_normal((9, N, F)).astype(np.float32)
    tokenizer = load_tokenizer(text_encoder_folder)
    start = LanguageModel.from_pretrained(text_encoder_folder)
    model = GroundingObjective(GroundingConfig(num_regions=N), start, features, tokenizer).model
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return model.eval()


@pytest.fixture(scope="module")
def examples(captions, tokenizer):
    features = keyed_rng(3).standard_normal((len(captions.pictures), N, F)).astype(np.float32)
    return MaskedCaptions(captions, features, tokenizer, max_length=16, probability=0.4)


def test_it_is_that_of_each_word_by_itself(model, examples):
    entropies = []
    for i in range(len(examples)):
        example = examples.example(i, keyed_rng(5, 0, i))
        batch = examples.collate([example])
        with torch.no_grad():
            states, _ = model(batch["input_ids"], batch["attention_mask"], batch["images"], hidden=batch["hidden"])
            logits = model.cross.logits(states)[0].double().numpy()
        for at in np.flatnonzero(example["lm_labels"] != IGNORED):
            shares = np.exp(logits[at] - logits[at].max())
            entropies.append((i, -math.log(shares[example["lm_labels"][at]] / shares.sum())))
    found = perplexity(model, examples, seed=5, batch_size=7)
    values = [value for _, value in entropies]
    assert found.words == len(values)
    assert found.value == pytest.approx(math.exp(sum(values) / len(values)), rel=1e-5)
    for i, (total, count) in enumerate(found.surprise):
        own = [value for j, value in entropies if i == j]
        assert (total, count) == (pytest.approx(sum(own), rel=1e-4), len(own))


def test_the_same_words_are_asked_whatever_the_batches(model, examples):
    first, second = (perplexity(model, examples, seed=1, batch_size=size) for size in (1, 100))
    assert first.value == pytest.approx(second.value, rel=1e-5)
    assert perplexity(model, examples, seed=2).words != first.words
