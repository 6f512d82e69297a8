"""Several corpora counted, and compared with one of them; see `corpus` for what is told of each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightread.analysis.corpus import CorpusStatistics, as_dicts, as_markdown, statistics_of
from sightread.analysis.counting import Texts, count_all
from sightread.analysis.grounded_types import grounded_types, read_types, types_text
from sightread.analysis.ngrams import Counts, Tokens, subwords, words_and_marks
from sightread.artifacts import Artifact, digest_file, write_atomic
from sightread.config import check_choice
from sightread.data.skipped import Skipped
from sightread.data.sources import decoded_lines
from sightread.errors import ConfigError, DataError

KIND, TYPES = "corpora", "grounded-types.tsv"


@dataclass(frozen=True, kw_only=True)
class CorporaConfig:
    """What is compared, and how.

    Attributes:
        reference: Name of the corpus that the others are compared with.
        captions: Name of that whose frequent types are grounded; "" for none.
        types: Or a file of grounded types.
        tokenizer: Folder or Hub name of a fast tokenizer; "" for words and punctuation marks.
        stop_words: File of words that are never grounded, one a line; "" for ours.
        marks: Whether punctuation marks may be grounded.
    """

    reference: str
    captions: str = ""
    types: str = ""
    tokenizer: str = ""
    stop_words: str = ""
    marks: bool = False


def analyze_corpora(
    config: CorporaConfig, places: Mapping[str, Sequence[str]], out: Path | str, *, workers: int = 1,
    overwrite: bool = False, say: Callable[[str], object] = id,
) -> dict[str, CorpusStatistics]:  # fmt: skip
    """Write `corpora.md` and `corpora.json`, and `grounded-types.tsv` if grounded types are known, into a folder.

    Args:
        config: What is compared, and how.
        places: Where the text of each corpus lies, see `Texts`.
        out: The folder.
        workers: Processes that count.
        overwrite: Replace what is there.
        say: Told how it goes.

    Raises:
        ConfigError: If a name is none of the corpora's.
        DataError: If a corpus cannot be read, or is empty.
    """
    for name in filter(None, (config.reference, config.captions)):
        check_choice("corpus", name, places)
    texts = {name: Texts(those) for name, those in places.items()}
    types, stop = _known(config)
    files = {name: Path(path) for name in ("types", "stop_words") if (path := getattr(config, name))}
    inputs = {name: text.digest for name, text in texts.items()} | {n: digest_file(path) for n, path in files.items()}
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite)
    counted = _Counting(texts, config.tokenizer, workers, say)
    held = {name: counted(name) for name in dict.fromkeys([config.reference, config.captions]) if name}
    if config.captions:
        types = grounded_types(held[config.captions], stop=stop, marks=config.marks)
    rows = {name: statistics_of(held.get(name) or counted(name), held[config.reference], types) for name in places}
    if types is not None:
        write_atomic(artifact.path / TYPES, types_text(types))
    write_atomic(artifact.path / "corpora.md", as_markdown(rows))
    write_atomic(artifact.path / "corpora.json", json.dumps(as_dicts(rows), indent=1))
    artifact.finish({"corpora": as_dicts(rows), "types": len(types or ()), "skipped": counted.skipped.report()})
    return rows


class _Counting:
    """Counts corpora by name; their types share rows."""

    def __init__(self, texts: Mapping[str, Texts], tokenizer: str, workers: int, say: Callable[[str], object]) -> None:
        self.texts, self.workers, self.say, self.skipped = texts, workers, say, Skipped()
        self.tokens = _subwords(tokenizer) if tokenizer else words_and_marks
        self.row_of = dict[str, int]()

    def __call__(self, name: str) -> Counts:
        began = time.monotonic()
        counts = count_all(self.texts[name], self.row_of, tokens=self.tokens, workers=self.workers)
        self.skipped.merge(self.texts[name].skipped)
        number, seconds = int(counts.unigrams.sum()), time.monotonic() - began
        if not number:
            raise DataError(f"{name} has no tokens; give some text")
        self.say(f"{name}: {number:,} tokens in {seconds:.1f} s, {number / max(seconds, 1e-9):,.0f} tokens/s")
        return counts


def _subwords(tokenizer: str) -> Tokens:
    from sightread.encoders.text import load_tokenizer

    return subwords(load_tokenizer(tokenizer))


def _known(config: CorporaConfig) -> tuple[dict[str, int] | None, frozenset[str] | None]:
    """Grounded types and stop words of files."""
    if config.types and config.captions:
        raise ConfigError("give --types or --captions, but not both")
    stop = [line.strip() for _, line in decoded_lines(Path(config.stop_words), Skipped())] if config.stop_words else []
    return read_types(Path(config.types)) if config.types else None, frozenset(stop) or None
