"""How well the arms of an experiment foretell hidden words of text and of captions (Sileo 2021, tables 1 and 2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sightread.analysis.perplexity import perplexity
from sightread.artifacts import digest, write_atomic
from sightread.contracts import Batch, Examples
from sightread.data.blocks import TokenBlocks
from sightread.data.captioned import MaskedCaptions
from sightread.data.corpora import Corpus
from sightread.encoders.features import image_features
from sightread.encoders.text import load_tokenizer, weights_digest
from sightread.experiments.arms import Arm
from sightread.experiments.ground import Ground
from sightread.experiments.trainers import encoder_of_pictures
from sightread.grounded import GroundedEncoder, load_encoder, seen_images
from sightread.methods.associative import query_of
from sightread.statistics import bootstrap_interval
from sightread.vokenization.job import tokenize

if TYPE_CHECKING:
    from sightread.data.captions import Captions

TEXT, CAPTIONS, TRUE = "text", "captions", "captions, true picture"
CONDITIONS = (TEXT, CAPTIONS, TRUE)
RESAMPLES = 1000
GROUNDED = ("joint", "associative")  # methods whose arms have a perplexity beside pictures


class Found(NamedTuple):
    """A perplexity, and its 95 % interval by bootstrap over examples."""

    value: float
    low: float
    high: float


class Seen:
    """Examples with the pictures that an encoder finds for their visible words, or with none.

    Args:
        examples: Examples that hold `input_ids` and `lm_labels`.
        encoder: What finds them; without an association it finds none.
        tokenizer: Tells the text.
    """

    def __init__(self, examples: Examples, encoder: GroundedEncoder, tokenizer: Any) -> None:
        self.examples, self.finder, self.tokenizer = examples, encoder.finder, tokenizer
        self.example = examples.example

    def __len__(self) -> int:
        return len(self.examples)

    def collate(self, examples: Sequence[Any]) -> Batch:
        """Their batch, `images` and `image_mask` being those that were found."""
        batch = {name: v for name, v in self.examples.collate(examples).items() if name not in ("images", "hidden")}
        if not self.finder:
            return batch
        rows = self.finder.rows([query_of(self.tokenizer, example) for example in examples])
        return {**batch, **seen_images(self.finder.features, rows)}


def perplexities(arms: Iterable[Arm], ground: Ground, text: Corpus, captions: Captions) -> dict[str, dict[str, Found]]:
    """The perplexities of grounded arms, by arm and condition; what was measured is not measured again.

    Hidden are the same words for every arm: of lines of text; of captions, with what the arm sees by itself (the
    placeholder, or what it finds); and of captions beside their own picture.

    Args:
        arms: Trained arms; those that are not grounded are left out.
        ground: What they share.
        text: Text that none has read.
        captions: Captioned pictures that none has seen.
    """
    return {arm.name: _of_arm(arm, ground, text, captions) for arm in arms if arm.method in GROUNDED}


def _of_arm(arm: Arm, ground: Ground, text: Corpus, captions: Captions) -> dict[str, Found]:
    path, encoder = ground.folder / arm.name / "perplexity.json", load_encoder(ground.folder / arm.name / "encoder")
    asked = digest(weights_digest(encoder), *text, *captions.texts, *captions.pictures.ids)
    if not path.is_file() or json.loads(path.read_text())["asked"] != asked:
        found = {name: _interval(perplexity(encoder.cross_modal, examples).surprise)
                 for name, examples in _conditions(arm, encoder, ground, text, captions)}  # fmt: skip
        write_atomic(path, json.dumps({"asked": asked, "found": found}))
    return {name: Found(*values) for name, values in json.loads(path.read_text())["found"].items()}


def _conditions(
    arm: Arm, encoder: GroundedEncoder, ground: Ground, text: Corpus, captions: Captions
) -> Iterator[tuple[str, Examples]]:
    settings, tokenizer = ground.pretraining, load_tokenizer(ground.folder / arm.name / "encoder")
    corpus = tokenize(text, tokenizer, ground.folder / f"vokens-test-{arm.start}", resume=True)
    share = settings.mask_probability
    blocks = TokenBlocks(corpus, tokenizer, max_length=settings.max_length, packed=settings.packed, probability=share)
    yield TEXT, Seen(blocks, encoder, tokenizer)
    regions = encoder.config.num_regions
    cache = ground.features.with_name(f"{ground.features.name}-test-{regions}")
    features, rows, _ = image_features(encoder_of_pictures(arm, ground), captions.pictures, cache=cache)
    pairs = captions.keep_pictures(rows)
    features = features.reshape(len(features), regions, -1)
    masked = MaskedCaptions(pairs, features, tokenizer, max_length=settings.max_length, probability=share)
    yield CAPTIONS, Seen(masked, encoder, tokenizer)
    if encoder.config.num_images:
        yield TRUE, masked


def _interval(surprise: np.ndarray) -> Found:
    def of(examples: np.ndarray) -> float:
        total, words = examples.sum(axis=0)
        return float(np.exp(total / words)) if words else float("nan")

    return Found(of(surprise), *bootstrap_interval(surprise, statistic=of, num=RESAMPLES))


def as_table(found: Mapping[str, Mapping[str, Found]]) -> str:
    """A Markdown table: a row an arm, a column a condition."""

    def cell(value: Found | None) -> str:
        return f"{value.value:.1f} [{value.low:.1f}, {value.high:.1f}]" if value else "–"

    rows = [["perplexity", *CONDITIONS], ["---"] * (1 + len(CONDITIONS))]
    rows += [[name, *(cell(values.get(condition)) for condition in CONDITIONS)] for name, values in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
