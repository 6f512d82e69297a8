"""Labels of words: read as the files have them, carried by the first token of each word, through pieces and Unicode."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from sightread.contracts import IGNORED
from sightread.errors import DataError
from sightread.runtime import data_root
from sightread.tasks.token_labels import TokenLabels, to_bio

CONLL = """-DOCSTART- -X- -X- O

Anna NNP I-NP I-PER
Smith NNP I-NP I-PER
saw VBD I-VP O
Rome NNP I-NP I-LOC
Paris NNP I-NP B-LOC
. . O O

It PRP I-NP O
"""
VUA = "txt_id,sen_ix,sentence,label_seq,pos_seq,labeled_sentence,genre\n"
SEQ = VUA + "a,1,The dog ate time .,\"[0, 0, 1, 1, 0]\",\"['DET', 'NOUN', 'VERB', 'NOUN', 'PUNCT']\",x,news\n" \
            "a,2,He ran .,\"[0, 0, 0]\",\"['PRON', 'VERB', 'PUNCT']\",x,news\n"  # fmt: skip
VERBS = "text_idx,sentence_idx,verb,sentence,verb_idx,label\na,1,eat,The dog ate time .,2,1\n"


@pytest.fixture
def conll(tmp_path):
    (tmp_path / "eng.train").write_text(CONLL)
    return TokenLabels("conll2003", tmp_path)


def test_conll_is_read_as_bio(conll):
    first, second = conll.load("train")
    assert first.inputs.words == ("Anna", "Smith", "saw", "Rome", "Paris", ".")
    assert first.gold == ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "O"]
    assert second == ((("It",), (0,)), ["O"])


@given(st.lists(st.sampled_from(["O", "I-A", "I-B", "B-A", "B-B"]), max_size=12))
def test_bio_has_the_entities_of_iob1(tags):
    """By hand: an IOB1 entity begins at B-, or at I- where the tag before is of another type or O."""
    entities, begin = [], None
    for i, tag in enumerate([*tags, "O"]):
        before = tags[i - 1] if i else "O"
        if begin is not None and (tag == "O" or tag[0] == "B" or tag[2:] != before[2:]):
            entities.append((before[2:], begin, i - 1))
            begin = None
        if tag != "O" and begin is None:
            begin = i
    bio = to_bio(tags)
    assert get_entities(bio) == entities
    assert to_bio(bio) == bio  # what is BIO stays so


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Rome NNP I-NP", r"eng\.train:11 has 3 columns, expected 4"),
        ("Rome NNP I-NP S-LOC", r"'S-LOC' is no tag"),
        ("Rome NNP I-NP I-CITY", r"label 'B-CITY', expected one of O, B-LOC"),
    ],
)
def test_faults_of_conll_are_named(line, message, conll, tmp_path):
    (tmp_path / "eng.train").write_text(CONLL + line + "\n")
    with pytest.raises(DataError, match=message):
        conll.load("train")


def test_metaphor_data(tmp_path):
    (tmp_path / "vua_seq_train.csv").write_text(SEQ)
    (tmp_path / "vua_verb_train.csv").write_text(VERBS)
    every, nouns, verbs = (TokenLabels(f"vua-{kind}", tmp_path).load("train") for kind in ("all", "nouns", "verbs"))
    assert [row.gold for row in every] == [["0", "0", "1", "1", "0"], ["0", "0", "0"]]
    assert nouns == [((("The", "dog", "ate", "time", "."), (1, 3)), ["0", "1"])]
    assert verbs == [((("The", "dog", "ate", "time", "."), (2,)), ["1"])]


@pytest.mark.parametrize(
    ("name", "kind", "line", "message"),
    [
        ("vua_seq_train.csv", "all", 'a,3,One two,"[0]","[\'X\']",x,news', r"csv:4 has 2 words, 1 labels and 1 parts"),
        ("vua_seq_train.csv", "all", "a,3,One,0,[,x,news", r"csv:4: '\[' is no list|csv:4: '0' is no list"),
        ("vua_verb_train.csv", "verbs", "a,1,eat,The dog,2,1", r"csv:3 has verb_idx '2', expected 0 to 1"),
        ("vua_verb_train.csv", "verbs", "a,1,eat,The dog,1,2", r"csv:3 has label '2'"),
    ],
)
def test_faults_of_metaphor_data_are_named(name, kind, line, message, tmp_path):
    (tmp_path / name).write_text((SEQ if kind == "all" else VERBS) + line + "\n")
    with pytest.raises(DataError, match=message):
        TokenLabels(f"vua-{kind}", tmp_path).load("train")


def labelled(examples, rows, number):
    """Read back, from labels and tokens, which word carries which label."""
    found = [{} for _ in rows]
    for labels, words, row in zip(examples.labels, examples.words, examples.row_of, strict=True):
        for label, word in zip(labels, words, strict=True):
            if label != IGNORED:
                assert word >= 0
                assert word not in found[row], "a word has one label"
                found[row][int(word)] = number[int(label)]
    return found


@pytest.mark.parametrize("max_length", [5, 8, 64])
def test_every_word_in_question_has_its_label_once(max_length, conll, tokenizer):
    rows = conll.load("train")
    examples = conll.encode(rows, tokenizer, max_length)
    found = labelled(examples, rows, conll.labels)
    assert found == [dict(zip(row.inputs.asked, row.gold, strict=True)) for row in rows]
    assert max(examples.lengths) <= max_length


def test_predictions_are_those_of_the_first_token(conll, tokenizer):
    rows = conll.load("train")
    for max_length in (6, 64):
        examples = conll.encode(rows, tokenizer, max_length)
        outputs = [np.eye(len(conll.labels))[np.where(labels == IGNORED, 3, labels)] for labels in examples.labels]
        assert conll.predict(outputs, rows, examples) == [row.gold for row in rows]


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["tok-bert-base-uncased", "tok-roberta-base", "tok-albert-base-v2", "tok-clip"])
def test_first_tokens_on_real_tokenizers(name):
    """Against the slow way: the first token, in order, that touches a word's characters."""
    from sightread.encoders.text import load_tokenizer

    tokenizer = load_tokenizer(data_root() / "models" / name)
    task = TokenLabels("conll2003", data_root() / "data" / "conll2003")
    rows = task.load("dev")[:300]
    examples = task.encode(rows, tokenizer, 512)
    for row, words in zip(rows, examples.words, strict=True):
        text = " ".join(row.inputs.words)
        offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        begin = 0
        for i, word in enumerate(row.inputs.words):
            touching = [t for t, (low, high) in enumerate(offsets) if low < begin + len(word) and high > begin]
            assert words.tolist().index(i) == touching[0]
            begin += len(word) + 1
