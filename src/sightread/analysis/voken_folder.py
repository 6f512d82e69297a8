"""The statistics of a voken corpus as files: `vokens.md`, `types.csv`, and of concreteness a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sightread.analysis import concreteness
from sightread.analysis.vokens import as_csv, as_markdown, voken_statistics
from sightread.artifacts import Artifact, digest, write_atomic
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import load_tokenizer

KIND = "voken-statistics"


def write_voken_statistics(
    vokens: Path | str, out: Path | str, *, ratings: Mapping[str, float] | None = None, least: int = 50,
    overwrite: bool = False,
) -> str:  # fmt: skip
    """Write `vokens.md` and `types.csv`, and with ratings `concreteness.{svg,pdf,csv}`, into a folder.

    Args:
        vokens: Folder of the voken corpus.
        out: The folder.
        ratings: How concrete words are.
        least: Tokens that a type must have to be among the most and the least grounded.
        overwrite: Replace what is there.

    Returns:
        What `vokens.md` says.
    """
    corpus = VokenCorpus(vokens)
    inputs = {"vokens": corpus.digest} | ({"ratings": digest(repr(sorted(ratings.items())))} if ratings else {})
    found = voken_statistics(corpus, load_tokenizer(corpus.path / "tokenizer"))
    compared = concreteness.concreteness(found.words, ratings) if ratings else None
    artifact = Artifact.begin(out, KIND, config={"least": least}, inputs=inputs, overwrite=overwrite)
    said = as_markdown(found, least=least)
    if compared:
        said += "\n" + concreteness.as_markdown(compared)
        concreteness.draw(compared, artifact.path / "concreteness")
        write_atomic(artifact.path / "concreteness.csv", concreteness.as_csv(compared))
    write_atomic(artifact.path / "vokens.md", said)
    write_atomic(artifact.path / "types.csv", as_csv(found))
    artifact.finish(
        {"share_used": found.share_used, "share_of_favourites": found.share_of_favourites,
         "pictures_per_type": float(found.pictures.mean()), "mean_entropy": found.mean_entropy}
        | ({"spearman": compared.spearman, "interval": compared.interval} if compared else {})
    )  # fmt: skip
    return said
