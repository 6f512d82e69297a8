"""Encoders that know the answers score 1, those that know nothing chance; every score against one by hand."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import THINGS, KnowingEncoder, PlantedEncoder, write_probe_data
from scipy import stats

from sightread.probes import questions as official
from sightread.probes.attributes import accuracies, cloze_scores, correlations, probe_attributes
from sightread.probes.encoder import ProbedEncoder
from sightread.probes.questions import Cloze, Question
from sightread.probes.results import ProbeConfig

CONFIG = ProbeConfig(num_resamples=50)
COLORS = ("black", "green", "red")


@pytest.fixture
def data(tmp_path):
    return write_probe_data(tmp_path)


def question(answer=0, distribution=(), subject="frog"):
    return Question(subject, COLORS, (Cloze(f"the {subject} is [Y] .", COLORS),), answer, distribution)


def test_a_tie_is_a_guess():
    scores = [np.array(row, dtype=float) for row in ([3, 1, 1], [3, 3, 1], [0, 0, 0], [1, 2, 3], [2, 2 + 1e-12, 0])]
    assert accuracies(scores, [question()] * 5).tolist() == [1, 1 / 2, 1 / 3, 0, 1 / 2]


@given(st.integers(0, 10_000))
def test_accuracy_and_correlation_by_hand(seed):
    rng = np.random.default_rng(seed)
    scores = [rng.normal(size=3) for _ in range(5)]
    asked = [question(int(rng.integers(3)), tuple(rng.dirichlet(np.ones(3)))) for _ in range(5)]
    right = [max(range(3), key=lambda i: score[i]) == q.answer for score, q in zip(scores, asked, strict=True)]
    assert accuracies(scores, asked).tolist() == [float(hit) for hit in right]
    ranks = [(stats.rankdata(score), stats.rankdata(q.distribution)) for score, q in zip(scores, asked, strict=True)]
    np.testing.assert_allclose(correlations(scores, asked), [np.corrcoef(*pair)[0, 1] for pair in ranks])


def test_scores_that_are_all_the_same_agree_with_nothing():
    assert correlations([np.zeros(3)], [question(distribution=(0.1, 0.2, 0.7))]).tolist() == [0.0]


def test_choices_average_over_prompts(text_encoder_folder):
    encoder = ProbedEncoder.from_pretrained(text_encoder_folder)
    one, other = Cloze("the [Y] box", ("red", "zyx")), Cloze("a box , [Y]", ("zyx", "red"))
    asked = [Question("box", ("first", "second"), clozes, 0) for clozes in ((one,), (other,), (one, other))]
    first, second, both = cloze_scores(encoder, asked)
    np.testing.assert_allclose(both, (first + second) / 2)


def results_of(encoder, data, name):
    return {result.score: result for result in probe_attributes(encoder, data, CONFIG, name=name)}


def test_a_language_model_that_knows_the_colours_scores_1(data):
    lines = ["the usual typical color of what is ? : . q a an has it", *THINGS]
    result = results_of(KnowingEncoder(lines, THINGS), data, "memory_colors")["cloze accuracy"]
    assert (result.value, result.low, result.high, result.items) == (1.0, 1.0, 1.0, 6)
    assert result.answers[0] == {"item": "frog", "prediction": "green", "gold": "green", "value": 1.0}
    ignorant = results_of(KnowingEncoder(lines, dict.fromkeys(THINGS, "red")), data, "memory_colors")["cloze accuracy"]
    assert ignorant.value == pytest.approx(1 / 6)  # always the same colour


def test_vectors_that_know_the_colours_score_1(data):
    def vector_of(text):
        """What is said of a thing moves its vector, unless it goes without saying."""
        thing = next(word for word in THINGS if word in text)
        said = [color for color in THINGS.values() if color in text]
        return [1.0, float(bool(said) and THINGS[thing] not in said)]

    results = results_of(PlantedEncoder(vector_of), data, "memory_colors")
    assert results["stroop accuracy"].value == 1.0
    cloze = results["cloze accuracy"]
    assert (cloze.value, cloze.note, cloze.chance) == (None, "no head", pytest.approx(1 / 6))


def test_random_vectors_are_at_chance(data, monkeypatch):
    things = {f"thing{i}": color for i in range(80) for color in (sorted(THINGS.values())[i % 6],)}
    asked = official.QuestionSet([question(i % 3, subject=thing) for i, thing in enumerate(things)])
    monkeypatch.setitem(official.QUESTION_SETS, "random", lambda data: asked)
    rng = np.random.default_rng(0)
    result = results_of(PlantedEncoder(lambda text: rng.normal(size=8)), data, "random")["stroop accuracy"]
    assert result.value == pytest.approx(1 / 3, abs=0.15)
    assert result.low < 1 / 3 < result.high


def test_references_look_at_the_choices_alone(data):
    results = results_of(PlantedEncoder(lambda text: [1.0, 0.0]), data, "vicomte_color")
    accuracy, spearman = results["stroop accuracy"], results["stroop spearman"]
    assert accuracy.value == accuracy.chance == 1 / 4  # all similarities are the same
    assert accuracy.references["majority"] == 2 / 6 * (1 / 2) * 2  # green and black are each right twice of six
    asked = official.vicomte_values(data, "color").questions
    mean = np.mean([q.distribution for q in asked], axis=0)
    expected = np.mean([stats.spearmanr(mean, q.distribution).statistic for q in asked])
    assert spearman.references["mean distribution"] == pytest.approx(expected)
    counts = [10 * i + 1 for i in (6, 10, 14, 15)]  # of black, green, red and white in the made-up norms
    expected = np.mean([stats.spearmanr(counts, q.distribution).statistic for q in asked])
    assert spearman.references["frequency"] == pytest.approx(expected)
    assert (spearman.chance, spearman.value) == (0.0, 0.0)


def test_a_liking_for_larger_does_not_count(data):
    lines = ["the size of is than that . brick plum straw frog flour smaller larger"]
    fond = KnowingEncoder(lines, {"the": "larger"})
    assert results_of(fond, data, "relative_size")["cloze accuracy"].value == 0.5


def test_a_word_that_the_norms_lack_is_of_middling_frequency(data):
    norms = data / "lexicons/brysbaert_concreteness.tsv"
    kept = [line for line in norms.read_text().splitlines() if not line.startswith("white")]
    norms.write_text("\n".join(kept) + "\n")
    result = results_of(PlantedEncoder(lambda text: [1.0]), data, "vicomte_color")["stroop spearman"]
    asked = official.vicomte_values(data, "color").questions
    counts = [61, 101, 141, 101]  # white takes the median
    expected = np.mean([stats.spearmanr(counts, q.distribution).statistic for q in asked])
    assert result.references["frequency"] == pytest.approx(expected)


def test_without_norms_there_is_no_frequency_and_a_note(data):
    (data / "lexicons/brysbaert_concreteness.tsv").unlink()
    result = results_of(PlantedEncoder(lambda text: [1.0]), data, "memory_colors")["stroop accuracy"]
    assert set(result.references) == {"majority"}
    assert result.note.startswith("no frequency beside it: no lexicons/brysbaert_concreteness.tsv in")


def test_questions_of_one_subject_are_resampled_together(data, monkeypatch):
    """Nine of ten questions are about one thing that is known: the interval must say that this may be luck."""
    asked = [question(subject="frog")] * 9 + [question(1, subject="coal")]
    monkeypatch.setitem(official.QUESTION_SETS, "few", lambda data: official.QuestionSet(asked))

    def vector_of(text):
        return [1.0, float("green" in text or "red" in text)]

    result = results_of(PlantedEncoder(vector_of), data, "few")["stroop accuracy"]
    assert (result.value, result.low, result.high) == (0.9, 0.0, 1.0)
    apart = [dataclasses.replace(q, subject=f"{q.subject} {i}") for i, q in enumerate(asked)]
    monkeypatch.setitem(official.QUESTION_SETS, "few", lambda data: official.QuestionSet(apart))
    assert results_of(PlantedEncoder(vector_of), data, "few")["stroop accuracy"].low > 0.5
