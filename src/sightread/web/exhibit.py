"""What the page shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import load_tokenizer
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.vokenizer import Vokenizer
from sightread.web.probed import Answers
from sightread.web.thumbnails import Gallery


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """Everything that can be asked for; what is not here the page says in words.

    Attributes:
        vokenizers: By the name under which they are shown.
        captions: Of pictures, by their ids.
        is_grounded: Whether captions ground a word, in lower case; None where nobody knows.
        corpus: A voken corpus, to look up which of its tokens chose a picture.
        answers: Of encoders to probes.
        turn: Held while a vokenizer reads text: its tokenizer cannot be used by two threads at once.
    """

    vokenizers: Mapping[str, Vokenizer]
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_grounded: Callable[[str], bool] | None = None
    corpus: VokenCorpus | None = None
    answers: Answers = field(default_factory=dict)
    turn: Lock = field(default_factory=Lock, repr=False)

    def vokenizer(self, name: str) -> Vokenizer:
        """The vokenizer of that name; raises `DataError` if there is none."""
        if name not in self.vokenizers:
            raise DataError(f"there is no vokenizer {name!r:.80} here; there are {', '.join(self.vokenizers)}")
        return self.vokenizers[name]

    @cached_property
    def galleries(self) -> dict[str, Gallery]:
        """The pictures of each vokenizer."""
        return {name: Gallery(vokenizer.bank) for name, vokenizer in self.vokenizers.items()}

    @cached_property
    def looked_up(self) -> frozenset[str]:
        """The vokenizers whose pictures the corpus chose among."""
        chose = self.corpus.artifact.inputs.get("bank") if self.corpus else None
        return frozenset(name for name, vokenizer in self.vokenizers.items() if vokenizer.bank.digest == chose)

    @cached_property
    def corpus_tokenizer(self) -> Any:
        """The tokenizer that the corpus was made with; None without a corpus."""
        return load_tokenizer(self.corpus.path / "tokenizer") if self.corpus else None

    def check(self) -> None:
        """Raise an error, before anybody asks, if there is nothing to show, or a corpus of other pictures."""
        if not self.vokenizers:
            raise ConfigError("there is nothing to show; give a vokenizer")
        if self.corpus:
            self.corpus.check_has_vokens()
            if not self.looked_up:
                raise ArtifactError(
                    f"{self.corpus.path} chose among pictures of no vokenizer here; give the one it had"
                )
