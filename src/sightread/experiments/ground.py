"""What the arms of a comparison share, and the voken corpora that are made of it, each once and by its name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightread.artifacts import write_atomic
from sightread.association.build import ASSOCIATIONS as SIMPLE
from sightread.errors import ConfigError
from sightread.methods.semantic_visual import ASSOCIATION, EmbeddingConfig
from sightread.methods.towers import TowersConfig
from sightread.pretraining import PretrainingConfig, is_fresh
from sightread.vokenization.engines import Engine, here

if TYPE_CHECKING:
    from sightread.association import Association
    from sightread.association.objects import NounIndex
    from sightread.association.words import WordVectors
    from sightread.bank import ImageBank
    from sightread.data.captions import Captions
    from sightread.data.corpora import Corpus
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.experiments.arms import Arm

TOP = 5  # pictures a token, for soft vokens
FOUND = 24  # pictures a text, for associative grounding; an arm takes the first of them, but if they are `ANEW`
ANEW = ("object",)  # found for each K: of more the first would be others
VOKENIZERS = {"token": "vokenizer", "sentence": "vokenizer-sentence"}  # their folders, by level
SYNSET_BANK = "bank-synsets"  # its folder
EMBEDDING = "semantic-visual"  # the kind of association that is trained
BY_CHANCE = "random of semantic-visual"  # its control: pictures of the same bank
ASSOCIATIONS = (*SIMPLE, EMBEDDING, BY_CHANCE)
LEVELS = {
    "matched": "token", "top": "token", "random": "token", "shuffled": "token", "frequency": "token",
    "sentence": "sentence", "voken": "token",
}  # fmt: skip
"""The level of the vokenizer that a kind of voken corpus, or an association, rests on."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the arms of a comparison share.

    Attributes:
        folder: Where voken corpora and encoders are written, each under the name of its store or arm.
        corpus: The text.
        captions: Captioned pictures that the vokenizers, and methods that see captions, learn from.
        tokenizer: The tokenizer of the text, a folder or Hub name.
        vokenizers: Folders of the vokenizers that are needed, by level, "token" or "sentence".
        image_encoder: Folder or Hub name of the image encoder.
        image_options: Its pooling and view; see `ImageEncoder`.
        features: Folder that keeps the pictures' features.
        starts: Where arms begin, by name: a checkpoint, or what makes fresh weights; see `pretraining.start_model`.
        pretraining: Settings that all arms share, the seed among them.
        tokenizers: Other tokenizers, by the start that needs them; vokens are carried over to them.
        engine: Where shards of voken corpora are made.
        words: File of word vectors, for associations; None: those of the tokens of the start that reads.
        synsets: File of synsets, whose pictures are then those by object, in a bank of their own; None: words in
            captions name what pictures show.
        definitions: File of their definitions.
        regions: The regions of the captions' pictures, for unpaired arms.
        clip_tokenizer: The tokenizer of a small CLIP; "" for that of the text.
        towers: Settings of the small CLIP.
        embedding: Settings of the semantic-visual embedding; its pictures are the captioned ones.
    """

    folder: Path
    corpus: Corpus
    captions: Captions
    tokenizer: str | Path
    vokenizers: Mapping[str, Path]
    image_encoder: str | Path
    features: Path
    image_options: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, str | Path]
    pretraining: PretrainingConfig
    tokenizers: Mapping[str, str | Path] = field(default_factory=dict)
    engine: Engine = here
    words: Path | None = None
    synsets: Path | None = None
    definitions: Path | None = None
    regions: Path | str = ""
    clip_tokenizer: Path | str = ""
    towers: TowersConfig = field(default_factory=TowersConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)

    def bank(self) -> ImageBank:
        """The pictures that vokens are chosen from, or text is read beside: `bank` in the folder, or a vokenizer's."""
        from sightread.bank import ImageBank

        own = self.folder / "bank"
        return ImageBank.load(own if own.is_dir() else next(iter(self.vokenizers.values())) / "bank")

    def tokenizer_of(self, start: str) -> str | Path:
        """The tokenizer that an arm with this start reads by."""
        return self.tokenizers.get(start, self.tokenizer)


def store_path(kind: str, ground: Ground, start: str = "") -> Path:
    """Where the voken corpus of this kind lies, for the tokenizer of a start."""
    return ground.folder / (f"vokens-{kind}-{start}" if start in ground.tokenizers else f"vokens-{kind}")


def make_store(kind: str, ground: Ground, start: str = "") -> VokenCorpus:
    """The voken corpus of this kind, a key of `STORES`, for the tokenizer of a start; made if it is not there.

    What a vokenizer chose is carried over to another tokenizer; everything else is made anew for it.
    """
    from sightread.encoders.text import load_tokenizer
    from sightread.vokenization.revokenize import revokenize

    tokenizer, out = load_tokenizer(ground.tokenizer_of(start)), store_path(kind, ground, start)
    if start in ground.tokenizers and kind in ("matched", "top", "sentence"):
        return revokenize(make_store(kind, ground), tokenizer, out, resume=True, engine=ground.engine)
    return STORES[kind](ground, start, tokenizer, out)


Maker = Callable[[Ground, str, Any, Path], "VokenCorpus"]


def _text(corpus_of: Callable[[Ground], Corpus]) -> Maker:
    """Tokenized text."""

    def make(ground: Ground, start: str, tokenizer: Any, out: Path) -> VokenCorpus:
        from sightread.vokenization.job import tokenize

        return tokenize(corpus_of(ground), tokenizer, out, resume=True, engine=ground.engine)

    return make


def _captions(ground: Ground) -> Corpus:
    from sightread.data.corpora import Corpus

    path = ground.folder / "captions.txt"
    write_atomic(path, "".join(f"{text}\n" for text in ground.captions.texts))
    return Corpus(path)


def _as_long_as_captions(ground: Ground) -> Corpus:
    """As many lines of the text as hold as many words as all captions."""
    from sightread.data.corpora import Corpus

    words = sum(len(text.split()) for text in ground.captions.texts)
    read = itertools.accumulate(len(line.split()) for line in ground.corpus)
    lines = 1 + sum(1 for _ in itertools.takewhile(lambda total: total < words, read))
    return Corpus(ground.corpus.source, max_lines=lines)


def _matched(level: str, top: int = 1) -> Maker:
    """The vokenizer's choice."""

    def make(ground: Ground, start: str, tokenizer: Any, out: Path) -> VokenCorpus:
        from sightread.vokenization.job import vokenize
        from sightread.vokenizer import Vokenizer

        vokenizer = Vokenizer.from_pretrained(ground.vokenizers[level])
        return vokenize(ground.corpus, vokenizer, out, top=top, resume=True, engine=ground.engine)

    return make


def _baseline(kind: str, source: str) -> Maker:
    """A simple rule's choice, for the tokens of another store."""

    def make(ground: Ground, start: str, tokenizer: Any, out: Path) -> VokenCorpus:
        from sightread.vokenization.baselines import BASELINES

        more: dict[str, Any] = {} if kind == "tokens" else {"seed": ground.pretraining.seed}
        if kind == "term-frequency":
            more |= {"captions": ground.captions, "bank": ground.bank()}
        rests_on = make_store(source, ground, start)
        return BASELINES[kind](rests_on, tokenizer, out, resume=True, engine=ground.engine, **more)

    return make


STORES: Mapping[str, Maker] = {
    "none": _text(lambda ground: ground.corpus), "captions": _text(_captions),
    "as long as captions": _text(_as_long_as_captions),
    "matched": _matched("token"), "top": _matched("token", TOP), "sentence": _matched("sentence"),
    "random": _baseline("random", "matched"), "shuffled": _baseline("shuffle", "matched"),
    "tokens": _baseline("tokens", "none"), "frequency": _baseline("term-frequency", "none"),
}  # fmt: skip
"""How each kind of voken corpus is made: text, or vokens, of a ground, for a start and its tokenizer, in a folder."""


def association_path(kind: str, ground: Ground, start: str) -> Path:
    """Where the association of this kind lies, for arms with this start."""
    if kind == EMBEDDING:
        return ground.folder / f"embedding-{start}" / ASSOCIATION
    return ground.folder / f"association-{kind}-{start}"


def pictures_path(kind: str, ground: Ground, start: str, count: int) -> Path:
    """Where the pictures lie that it found, so many each, for all blocks that arms with this start read."""
    return store_path("none", ground, start).with_name(f"pictures-{kind}-{start}-{count}")


def found_for(arm: Arm) -> int:
    """How many pictures of each text are found in advance for an associative arm."""
    return max(arm.settings.get("num_images", 1), 1) if arm.pictures in ANEW else FOUND


def make_pictures(kind: str, ground: Ground, start: str, count: int) -> None:
    """What the association of this kind, which is there, finds for arms with this start, if not there."""
    from sightread.association.folder import load_association
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods.associative import find

    association = load_association(association_path(kind, ground, start))
    corpus, out = VokenCorpus(store_path("none", ground, start)), pictures_path(kind, ground, start, count)
    find(ground.pretraining, corpus, association, out, count=min(count, len(association.bank)), resume=True)


def make_association(kind: str, ground: Ground, start: str) -> Association:
    """The association of this kind, one of `ASSOCIATIONS`, for arms with this start; made if not there.

    Word vectors that `Ground.words` does not give are those of this start's tokens.
    """
    from sightread.artifacts import MANIFEST
    from sightread.association.folder import load_association

    path = association_path(kind, ground, start)
    by_words = kind == "dense" or (kind in ("scene", "object", EMBEDDING, BY_CHANCE) and not ground.words)
    if is_fresh(ground.starts[start]) and by_words:
        raise ConfigError(f"pictures by {kind} are found by words that the start knows; {start} is fresh: give words")
    if kind == EMBEDDING:
        _train_embedding(ground, start)
    elif not (path / MANIFEST).is_file():
        _association(kind, ground, start).save(path, overwrite=path.exists())
    return load_association(path)


def _train_embedding(ground: Ground, start: str) -> None:
    from sightread.encoders.image import ImageEncoder
    from sightread.methods import semantic_visual

    config = replace(ground.embedding, seed=ground.pretraining.seed)
    semantic_visual.train(
        config, ground.captions, association_path(EMBEDDING, ground, start).parent, words=_words(ground, start),
        image_encoder=ImageEncoder.from_pretrained(ground.image_encoder), resume=True,
    )  # fmt: skip


def _association(kind: str, ground: Ground, start: str) -> Association:
    from sightread.association.build import build_association
    from sightread.association.chance import RandomAssociation
    from sightread.association.encoders import MeanVectors
    from sightread.encoders.text import TextEncoder
    from sightread.vokenizer import Vokenizer

    if kind == BY_CHANCE:
        found = make_association(EMBEDDING, ground, start)
        return RandomAssociation(found.bank, like=found)
    return build_association(
        kind, bank=ground.bank, captions=lambda: ground.captions, words=lambda: _words(ground, start),
        nouns=lambda: _nouns(ground),
        text_encoder=lambda: MeanVectors(TextEncoder.from_pretrained(ground.starts[start])),
        vokenizer=lambda: Vokenizer.from_pretrained(ground.vokenizers["token"]),
    )  # fmt: skip


def _nouns(ground: Ground) -> NounIndex:
    from sightread.association.objects import NounIndex
    from sightread.bank import ImageBank

    if ground.synsets:
        return NounIndex.of_synsets(ImageBank.load(ground.folder / SYNSET_BANK), ground.synsets, ground.definitions)
    return NounIndex.of_captions(ground.bank(), ground.captions)


def _words(ground: Ground, start: str) -> WordVectors:
    from sightread.association.words import WordVectors
    from sightread.encoders.text import load_tokenizer
    from sightread.grounded import load_encoder

    if ground.words:
        return WordVectors.read(ground.words)
    return WordVectors.of_tokens(load_encoder(ground.starts[start]), load_tokenizer(ground.starts[start]))
