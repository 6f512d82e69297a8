"""Scores against a loop that masks one place at a time and runs the whole model."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from sightread.errors import ConfigError, DataError
from sightread.probes import scoring
from sightread.probes.encoder import ProbedEncoder
from sightread.probes.scoring import pseudo_log_likelihoods, sentence_scores

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS = {
    "bert": transformers.BertConfig,
    "roberta": transformers.RobertaConfig,
    "albert": transformers.AlbertConfig,
    "electra": transformers.ElectraConfig,
}


@pytest.fixture(scope="module")
def probed(text_encoder_folder):
    return ProbedEncoder.from_pretrained(text_encoder_folder, "tiny")


@pytest.fixture(params=CONFIGS)
def checkpoint(request, tokenizer, tmp_path):
    """A random masked language model of each kind, as the probes load it and as it is."""
    torch.manual_seed(0)
    special = {"pad_token_id": tokenizer.pad_token_id, "embedding_size": 16}
    config = CONFIGS[request.param](vocab_size=len(tokenizer), max_position_embeddings=80, **SIZES, **special)
    model = transformers.AutoModelForMaskedLM.from_config(config)
    for parameter in model.parameters():  # a fresh one is all but indifferent to what it reads
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return ProbedEncoder.from_pretrained(tmp_path), model.eval()


def naive(checkpoint, text, unit, *, left_to_right=True):
    """The sum over a unit's positions of the log-probability of each, the whole model run for each."""
    encoder, model = checkpoint
    ids, total = encoder.tokenizer(text)["input_ids"], 0.0
    for position in unit:
        hidden = list(ids)
        for other in unit:
            if other == position or (left_to_right and other > position):
                hidden[other] = encoder.tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(torch.tensor([hidden])).logits[0, position].double()
        total += torch.log_softmax(logits, dim=-1)[ids[position]].item()
    return total


def test_answers_equal_a_loop_over_masks(checkpoint):
    prompts, begins = ["the box is [Y] .", "[Y] box", "the [Y]"], (4, 1, 2)
    for answer, pieces in (("red", 1), ("zyx", 3)):
        scores = pseudo_log_likelihoods(checkpoint[0], prompts, [answer] * 3)
        for prompt, score, begin in zip(prompts, scores, begins, strict=True):
            expected = naive(checkpoint, prompt.replace("[Y]", answer), range(begin, begin + pieces))
            assert score == pytest.approx(expected, abs=1e-4)


def test_later_pieces_are_masked_too(checkpoint):
    [score] = pseudo_log_likelihoods(checkpoint[0], ["the [Y]"], ["zyx"])
    plain = naive(checkpoint, "the zyx", [2, 3, 4], left_to_right=False)
    assert score != pytest.approx(plain, abs=1e-3)


def test_an_answer_of_several_words_is_one_unit(checkpoint):
    [score] = pseudo_log_likelihoods(checkpoint[0], ["a [Y] ."], ["red box"])
    assert score == pytest.approx(naive(checkpoint, "a red box .", [2, 3]), abs=1e-4)


def test_a_sentence_is_the_sum_over_its_words(checkpoint):
    [score] = sentence_scores(checkpoint[0], ["the zyx is red"])
    expected = sum(naive(checkpoint, "the zyx is red", unit) for unit in ([1], [2, 3, 4], [5], [6]))
    assert score == pytest.approx(expected, abs=2e-4)


@settings(max_examples=15)
@given(st.lists(st.sampled_from(["red", "the box", "zyx", "box"]), min_size=1, max_size=8), st.integers(1, 60))
def test_scores_do_not_depend_on_the_batch(probed, answers, tokens_at_a_time):
    prompts = ["the [Y] is near the box ." if i % 2 else "a [Y]" for i in range(len(answers))]
    alone = [
        pseudo_log_likelihoods(probed, [prompt], [answer])[0] for prompt, answer in zip(prompts, answers, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "TOKENS_AT_A_TIME", tokens_at_a_time)
        together = pseudo_log_likelihoods(probed, prompts, answers)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_equal_questions_are_asked_once(probed, monkeypatch):
    asked = []
    batches = scoring._batches
    monkeypatch.setattr(scoring, "_batches", lambda questions: asked.extend(questions) or batches(questions))
    scores = pseudo_log_likelihoods(probed, ["the [Y] ."] * 3, ["red", "box", "red"])
    assert len(asked) == 1  # one mask in one place, whatever the answer
    assert scores[0] == scores[2] != scores[1]


@pytest.mark.parametrize("prompt", ["no slot", "[Y] and [Y]"])
def test_a_prompt_has_one_slot(probed, prompt):
    with pytest.raises(DataError, match=r"has [02] slots \[Y\]; expected one"):
        pseudo_log_likelihoods(probed, [prompt], ["red"])


def test_an_answer_without_tokens_is_named(probed):
    with pytest.raises(DataError, match=r"no token of '\\u200b'"):
        pseudo_log_likelihoods(probed, ["the [Y]"], ["\u200b"])


def test_without_a_head_there_is_no_score(probed):
    headless = ProbedEncoder("bare", probed.text_encoder, None)
    with pytest.raises(ConfigError, match="bare cannot fill in masks: no masked-LM head"):
        sentence_scores(headless, ["the box"])
