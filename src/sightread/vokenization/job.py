"""From a corpus to a voken corpus: tokenize, assign each token its picture, write shards.

A shard is the unit of work. It depends on the corpus and the settings alone, never on who makes it, and appears whole
or not at all, so that a job that was killed, run again with `resume`, makes what is missing and ends with the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sightread.artifacts import Artifact, digest, digest_bytes, digest_file, write_atomic, writing
from sightread.config import check_choice
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import KIND, VokenCorpus, num_lines, read_ids, shard_path
from sightread.encoders.text import check_fast, config_digest, tokenizer_digest, weights_digest
from sightread.errors import ConfigError, DataError
from sightread.runtime import num_devices
from sightread.vokenization.engines import Engine, here, in_processes
from sightread.vokenization.summary import Progress, Summary, count
from sightread.vokenization.work import Tokenize, Vokenize, Work
from sightread.vokenizer import TOKEN_BUDGET, Vokenizer

SHARD_SIZE = 1 << 16  # characters in each of the first shards
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Options:
    """How a voken corpus is written, whatever is in it.

    Attributes:
        engine: Where shards are made; see `engine_of`.
        overwrite: Replace what is in the folder.
        resume: Go on with an unfinished job in the folder.
        say: Told how the job went, line by line.
    """

    engine: Engine = here
    overwrite: bool = False
    resume: bool = False
    say: Callable[[str], None] = lambda _: None


def engine_of(name: str, workers: int | None) -> Engine:
    """The engine of this name.

    Args:
        name: "local" or "ray".
        workers: Processes; None for one a core, or one a GPU.

    Raises:
        ConfigError: If there is no such engine, or there are no workers.
        MissingExtra: If Ray is not installed.
    """
    check_choice("engine", name, ENGINES)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: at least one is needed")
    if name == "ray":
        from sightread.vokenization.ray_engine import on_ray

        return partial(on_ray, workers=workers)
    workers = workers or num_devices()
    return here if workers == 1 else partial(in_processes, workers=workers)


def vokenize(
    corpus: Corpus, vokenizer: Vokenizer, out: Path | str, *, precision: str = "fp32", top: int = 1,
    shard_size: int = SHARD_SIZE, **options: Any,
) -> VokenCorpus:  # fmt: skip
    """Give every token of a corpus its best picture.

    Args:
        corpus: Plain text.
        vokenizer: What assigns the pictures, by its bank's index; its tokenizer is the voken corpus's.
        out: Folder of the voken corpus.
        precision: Of encoding, "fp32" or "bf16"; see `Vokenizer.reading`.
        top: How many best pictures of each token to keep, with their scores; `ConfigError` if the bank has fewer.
        shard_size: Characters in each of the first shards; see `cut`.
        **options: See `Options`.
    """
    bank = vokenizer.bank
    if not 1 <= top <= len(bank):
        raise ConfigError(f"top={top}: expected between 1 and the {len(bank)} pictures of the bank")
    inputs = {
        "bank": bank.digest, "text_encoder": weights_digest(vokenizer.text_encoder),
        "text_head": weights_digest(vokenizer.text_head), "image_head": weights_digest(vokenizer.image_head),
        "text_config": config_digest(vokenizer.text_encoder.model), "layers": str(vokenizer.config.layers),
        "max_length": str(vokenizer.room), "batch": f"{TOKEN_BUDGET}, even", "packed": str(vokenizer.packed),
        "precision": precision, "device": vokenizer.device.type, "vectors": digest(bank.vectors.tobytes()),
        "index": bank.index,
        **({} if vokenizer.config.level == "token" else {"level": vokenizer.config.level}),
    }  # fmt: skip
    work = Vokenize(vokenizer.reading(precision=precision, index=bank.index), top if top > 1 else 0)
    return write_corpus(work, corpus, vokenizer.tokenizer, out, inputs=inputs, shard_size=shard_size, **options)


def tokenize(
    corpus: Corpus, tokenizer: Any, out: Path | str, *, shard_size: int = SHARD_SIZE, **options: Any
) -> VokenCorpus:
    """A voken corpus without vokens (V = 0), for text-only pre-training; arguments as for `vokenize`."""
    return write_corpus(Tokenize(tokenizer), corpus, tokenizer, out, shard_size=shard_size, **options)


def write_corpus(
    work: Work,
    corpus: Corpus | VokenCorpus,
    tokenizer: Any,
    out: Path | str,
    *,
    inputs: Mapping[str, str] | None = None,
    shard_size: int = SHARD_SIZE,
    **options: Any,
) -> VokenCorpus:
    """Have shards made and write them; the common part of everything that makes a voken corpus.

    Args:
        work: How a shard is made: of some lines of a corpus, or of the path of a voken corpus's shard and the number of
            its first line.
        corpus: The text, or the voken corpus whose shards are made into others, one of each.
        tokenizer: The tokenizer of the new voken corpus.
        out: Its folder.
        inputs: Digests of what the work rests on.
        shard_size: Characters in each of the first shards of a corpus.
        **options: See `Options`.

    Raises:
        ArtifactError: If the folder cannot be begun, or written.
        ConfigError: If `shard_size` is not positive.
        DataError: If there is no text.
    """
    how, config = Options(**options), {"num_vokens": work.num_vokens} | ({"top": work.top} if work.top else {})
    if shard_size < 1:
        raise ConfigError(f"shard_size={shard_size}: expected at least 1 character")
    all_inputs = {"tokenizer": tokenizer_digest(check_fast(tokenizer)), **(inputs or {})}
    tasks: Iterable[tuple[Any, float]]  # each with the share of the corpus that has been read up to it
    if isinstance(corpus, VokenCorpus):
        of_source = {name: value for name, value in corpus.artifact.inputs.items() if name in ("corpus", "level")}
        all_inputs |= {**of_source, "vokens": corpus.digest}
        tasks, name = _shards_of(corpus), str(corpus.path)
    else:
        all_inputs["corpus"], config["shard_size"], name = corpus.digest, shard_size, corpus.source
        tasks = ((lines, corpus.share_read) for lines in cut(corpus, shard_size))
    artifact = Artifact.begin(out, KIND, config=config, inputs=all_inputs, overwrite=how.overwrite, resume=how.resume)
    if not artifact.finished:
        with writing(artifact.path / "tokenizer"):
            tokenizer.save_pretrained(artifact.path / "tokenizer")
        report = _make_shards(work, tasks, artifact.path, how)
        if not report["lines"]:
            raise DataError(f"{name} has no line with text; give another corpus, and --overwrite")
        skipped = corpus.skipped.report() if isinstance(corpus, Corpus) else {}
        artifact.finish({**report, "skipped": skipped})
    return VokenCorpus(artifact.path)


def _make_shards(work: Work, tasks: Iterable[tuple[Any, float]], folder: Path, how: Options) -> dict[str, Any]:
    """Make the shards that are missing, and tell what all hold."""
    summary, progress = Summary(work.num_vokens), Progress(how.say)

    def missing() -> Iterator[tuple[int, Any]]:
        for index, (task, share) in enumerate(tasks):
            path, step, progress.share = shard_path(folder, index), share - progress.share, share
            if path.exists():
                progress.found += step
                summary.add(index, digest_file(path), count(read_ids(path), index, work.num_vokens))
            else:
                yield index, task

    with closing(how.engine(work, missing())) as shards, progress:
        for made in shards:
            path = shard_path(folder, made.index)
            with writing(path):
                write_atomic(path, made.data)
            summary.add(made.index, digest_bytes(made.data), made.counts)
            progress.add(made.counts.tokens, made.seconds)
    report = summary.report()
    progress.tell(report, work.num_vokens)
    return report


def _shards_of(source: VokenCorpus) -> Iterator[tuple[tuple[Path, int], float]]:
    """Path and first line of each shard, with the share of shards up to it."""
    first = 0
    for number, path in enumerate(source.shards, start=1):
        yield (path.resolve(), first), number / len(source.shards)
        first += num_lines(path)


def cut(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lines in shards of about so many characters.

    Every 64 shards the size doubles, up to eight times the first: a small corpus makes enough shards to keep all
    workers busy to the end, and a large one does not make too many files.
    """
    lines, room, number = list[str](), size, 0
    for text in texts:
        lines.append(text)
        room -= len(text)
        if room <= 0:
            yield lines
            number += 1
            lines, room = [], size << min(number // 64, 3)
    if lines:
        yield lines
