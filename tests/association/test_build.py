import numpy as np
import pytest

from sightread.association.build import ASSOCIATIONS, build_association
from sightread.association.encoders import MeanVectors
from sightread.association.folder import load_association
from sightread.association.objects import NounIndex
from sightread.association.words import WordVectors
from sightread.encoders.text import TextEncoder, load_model, load_tokenizer
from sightread.errors import ConfigError
from sightread.vokenizer import Vokenizer

TEXTS = ["the red box is near the cup .", "xyzzy"]


@pytest.fixture(scope="module")
def parts(captions, text_encoder_folder, vokenizer_folder):
    vokenizer = Vokenizer.from_pretrained(vokenizer_folder)
    words = WordVectors.of_tokens(load_model(text_encoder_folder, "AutoModel"), load_tokenizer(text_encoder_folder))
    return {
        "bank": lambda: vokenizer.bank, "captions": lambda: captions, "words": lambda: words,
        "nouns": lambda: NounIndex.of_captions(vokenizer.bank, captions),
        "text_encoder": lambda: MeanVectors(TextEncoder.from_pretrained(text_encoder_folder)),
        "vokenizer": lambda: vokenizer,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ASSOCIATIONS)
def test_each_kind_is_made_of_its_parts_and_read_back(kind, parts, tmp_path):
    made = build_association(kind, **parts)
    assert made.kind == kind
    found = made.retrieve(TEXTS, 3)
    assert found.shape == (2, 3)
    assert found[0, 0] >= 0
    made.save(tmp_path / kind)
    again = load_association(tmp_path / kind)
    assert again.digest == made.digest
    np.testing.assert_array_equal(again.retrieve(TEXTS, 3), found)


def test_nouns_may_be_found_by_a_tagger(parts):
    named = build_association("object", **parts).retrieve(TEXTS, 1)
    assert named[0] >= 0 > build_association("object", **parts, tagger=lambda: lambda text: []).retrieve(TEXTS, 1)[0]


def test_what_is_missing_is_named(parts):
    with pytest.raises(ConfigError, match="an association by scene is made of bank, captions, words; words not given"):
        build_association("scene", bank=parts["bank"], captions=parts["captions"])
    with pytest.raises(ConfigError, match=r"kind is 'scenes'.*did you mean 'scene'"):
        build_association("scenes", **parts)
