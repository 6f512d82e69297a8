import itertools
import json
import shutil
import time
from functools import partial

import numpy as np
import pytest
import transformers

from sightread.bank import ImageBank
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import VokenCorpus, shard_path
from sightread.encoders.text import tokenizer_digest
from sightread.errors import ArtifactError, DataError
from sightread.vokenization import job
from sightread.vokenization.job import random_vokens, tokenize, vokenize, write_corpus
from sightread.vokenizer import Vokenizer

NUM_SHARDS = 8  # of ten lines


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setitem(write_corpus.__kwdefaults__, "lines_per_shard", 10)


@pytest.fixture(scope="module")
def vokenizer(vokenizer_folder):
    return Vokenizer.from_pretrained(vokenizer_folder)


@pytest.fixture(scope="module")
def corpus(world_folder):
    return Corpus(world_folder / "corpus.txt")


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name.startswith("shard")}


def test_vokens_are_those_of_the_vokenizer_token_by_token(vokenizer, corpus, tmp_path, small_shards):
    made = vokenize(corpus, vokenizer, tmp_path / "vokens")
    lines, texts = list(made), list(corpus)
    assert (len(made.shards), len(made), made.num_vokens) == (NUM_SHARDS, 80, 24)
    assert [line.text for line in lines] == texts
    for line, tokens in zip(lines, vokenizer(texts), strict=True):
        assert vokenizer.tokenizer.convert_ids_to_tokens(line.token_ids) == [token.piece for token in tokens]
        assert [*zip(line.starts, line.ends, strict=True)] == [token.span for token in tokens]
        assert line.voken_ids.tolist() == [token.rows[0] for token in tokens]
    assert made.num_tokens == sum(len(line.token_ids) for line in lines)


def test_the_manifest_says_what_it_was_made_from(vokenizer, corpus, voken_corpus_folder):
    made = VokenCorpus(voken_corpus_folder)
    inputs = made.artifact.inputs
    assert inputs["bank"] == vokenizer.bank.digest
    assert inputs["corpus"] == corpus.digest
    assert inputs["tokenizer"] == tokenizer_digest(vokenizer.tokenizer)
    report = made.artifact.report
    assert (report["lines"], report["shards"], report["no_voken"], report["skipped"]) == (80, 1, 0, {})
    kept = transformers.AutoTokenizer.from_pretrained(voken_corpus_folder / "tokenizer")
    assert tokenizer_digest(kept) == inputs["tokenizer"]


ODD = ["a box", "\u200b", "zzz \u00e9\u0301 \U0001f600", "the \u2028 cup", "\u0000", "x" * 300]


def test_lines_without_tokens_and_strange_characters_keep_their_place(vokenizer, tmp_path, small_shards, monkeypatch):
    monkeypatch.setitem(write_corpus.__kwdefaults__, "lines_per_shard", 2)
    (tmp_path / "odd.txt").write_text("\n".join(ODD), encoding="utf-8")
    made = vokenize(Corpus(tmp_path / "odd.txt"), vokenizer, tmp_path / "vokens")
    lines = list(made)
    assert [line.text for line in lines] == ODD
    assert 0 in [len(line.token_ids) for line in lines]
    for line, tokens in zip(lines, vokenizer(ODD), strict=True):
        assert line.voken_ids.tolist() == [token.rows[0] for token in tokens]


def test_a_corpus_that_is_only_tokenized_has_no_vokens(tokenizer, corpus, tmp_path):
    made = tokenize(corpus, tokenizer, tmp_path / "tokens")
    tokens, vokens, begins = made.flat()
    assert made.num_vokens == 0
    assert set(vokens) == {-100}
    assert made.artifact.report["no_voken"] == made.num_tokens == len(tokens)
    expected = tokenizer(list(corpus), add_special_tokens=False)["input_ids"]
    assert [tokens[a:b].tolist() for a, b in itertools.pairwise(begins)] == expected


def vokens_of(made):
    return [line.voken_ids.tolist() for line in made]


def test_random_vokens_depend_on_seed_and_line_alone(tokenizer, voken_corpus_folder, tmp_path):
    source = VokenCorpus(voken_corpus_folder)
    draw = partial(random_vokens, source, tokenizer)
    expected = vokens_of(draw(tmp_path / "a", seed=3))
    assert vokens_of(draw(tmp_path / "b", seed=3, lines_per_shard=7)) == expected
    others = vokens_of(draw(tmp_path / "c", seed=4))
    assert sum(a == b for a, b in zip(expected, others, strict=True)) <= 1
    assert [len(line) for line in expected] == [len(line.token_ids) for line in source]
    counts = np.bincount(np.concatenate([np.array(line) for line in expected]), minlength=25)
    assert counts[24] == 0  # each token has one
    assert counts[:24].min() > 8  # of 27 expected
    assert len({tuple(line[:5]) for line in expected}) == 80  # a draw of its own for every line
    made = VokenCorpus(tmp_path / "a")
    assert [line.text for line in made] == [line.text for line in source]
    assert made.num_vokens == 24
    assert made.artifact.inputs["bank"] == source.artifact.inputs["bank"]


def test_a_slow_tokenizer_is_refused_before_anything_is_written(corpus, voken_corpus_folder, tmp_path):
    slow = transformers.ByT5Tokenizer()
    with pytest.raises(DataError, match="ByT5Tokenizer is a slow tokenizer"):
        tokenize(corpus, slow, tmp_path / "tokens")
    with pytest.raises(DataError, match="ByT5Tokenizer is a slow tokenizer"):
        random_vokens(VokenCorpus(voken_corpus_folder), slow, tmp_path / "random", seed=0)
    assert not list(tmp_path.iterdir())


class Stopped(Exception):
    pass


@pytest.fixture
def stopped(vokenizer, corpus, tmp_path, small_shards, monkeypatch):
    """A job that stopped after its second shard."""
    written = []

    def write_two(*args):
        if len(written) == 2:
            raise Stopped
        written.append(args[1])
        return write_shard(*args)

    write_shard = job.write_shard
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_shard", write_two)
        with pytest.raises(Stopped):
            vokenize(corpus, vokenizer, tmp_path / "stopped")
    assert len(shards(tmp_path / "stopped")) == 2
    return tmp_path / "stopped"


def test_a_stopped_job_resumed_leaves_the_same_folder(vokenizer, corpus, stopped, tmp_path):
    vokenize(corpus, vokenizer, tmp_path / "whole")
    with pytest.raises(ArtifactError, match="unfinished"):
        VokenCorpus(stopped)
    with pytest.raises(ArtifactError, match=r"unfinished voken-corpus.*--resume"):
        vokenize(corpus, vokenizer, stopped)
    (stopped / "shard-00002.tmp").write_bytes(b"half a sha")  # where it was killed while it wrote
    before = {name: shard_path(stopped, i).stat().st_mtime_ns for i, name in enumerate(shards(stopped)) if i < 2}
    made = vokenize(corpus, vokenizer, stopped, resume=True)
    assert shards(stopped) == shards(tmp_path / "whole")
    assert [shard_path(stopped, i).stat().st_mtime_ns for i in range(2)] == list(before.values())
    reports = [{**VokenCorpus(path).artifact.report, "seconds": 0} for path in (stopped, tmp_path / "whole")]
    assert reports[0] == reports[1]
    assert made.num_tokens == sum(len(line.token_ids) for line in made)


def test_another_corpus_or_vokenizer_is_refused_on_resume(vokenizer_folder, vokenizer, world_folder, stopped, tmp_path):
    bank = ImageBank.load(vokenizer_folder / "bank")
    corpus = Corpus(world_folder / "corpus.txt")
    (tmp_path / "corpus.txt").write_text((world_folder / "corpus.txt").read_text() + "one more\n")
    other_head = Vokenizer.from_pretrained(vokenizer_folder)
    next(other_head.text_head.parameters()).data[0] += 1
    other_image_head = Vokenizer.from_pretrained(vokenizer_folder)
    next(other_image_head.image_head.parameters()).data[0] += 1
    for changed, with_vokenizer, message in [
        (Corpus(tmp_path / "corpus.txt"), vokenizer, "another corpus"),
        (Corpus(world_folder / "corpus.txt", max_lines=40), vokenizer, "another corpus"),
        (corpus, Vokenizer.from_pretrained(vokenizer_folder, bank.select(range(23))), "another num_vokens"),
        (corpus, Vokenizer.from_pretrained(vokenizer_folder, bank.select([1, 0, *range(2, 24)])), "another bank"),
        (corpus, other_head, "another text_head"),
        (corpus, other_image_head, "another image_head"),
    ]:
        with pytest.raises(ArtifactError, match=f"cannot be resumed.*{message}"):
            vokenize(changed, with_vokenizer, stopped, resume=True)
    assert len(shards(stopped)) == 2


def test_a_vokenizer_that_reads_in_other_windows_is_refused_on_resume(vokenizer_folder, corpus, stopped, tmp_path):
    shutil.copytree(vokenizer_folder, tmp_path / "vokenizer")
    manifest = tmp_path / "vokenizer" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"max_length": 24', '"max_length": 6'))
    with pytest.raises(ArtifactError, match="cannot be resumed"):
        vokenize(corpus, Vokenizer.from_pretrained(tmp_path / "vokenizer"), stopped, resume=True)


def test_a_finished_job_is_not_done_again(vokenizer, corpus, voken_corpus_folder, tmp_path, monkeypatch):
    shutil.copytree(voken_corpus_folder, tmp_path / "vokens")
    before = shards(tmp_path / "vokens")
    monkeypatch.setattr(job, "write_shard", None)
    assert len(vokenize(corpus, vokenizer, tmp_path / "vokens", resume=True)) == 80
    assert shards(tmp_path / "vokens") == before
    with pytest.raises(ArtifactError, match="already holds a finished voken-corpus"):
        vokenize(corpus, vokenizer, tmp_path / "vokens")


def test_overwrite_leaves_nothing_of_the_former_run(vokenizer, corpus, stopped, world_folder):
    made = vokenize(Corpus(world_folder / "corpus.txt", max_lines=5), vokenizer, stopped, overwrite=True)
    assert (len(made), len(made.shards)) == (5, 1)


def test_bytes_that_are_not_text_are_skipped_and_reported(vokenizer, tmp_path):
    (tmp_path / "corpus.txt").write_bytes(b"the box\n" * 10 + b"\xff\xfe\n" + b"a cup\n")
    made = vokenize(Corpus(tmp_path / "corpus.txt"), vokenizer, tmp_path / "vokens")
    assert [line.text for line in made] == ["the box"] * 10 + ["a cup"]
    skipped = json.loads((tmp_path / "vokens" / "manifest.json").read_text())["report"]["skipped"]
    assert skipped == {"not UTF-8": {"count": 1, "first": [f"{tmp_path / 'corpus.txt'}:11"]}}


def vokenize_here(world_folder, vokenizer_folder, out, resume, seconds_per_shard):
    """Vokenize the world's text ten lines at a time; in a process that is to be killed, slowly."""
    write_shard, kept = job.write_shard, write_corpus.__kwdefaults__["lines_per_shard"]

    def slowly(*args):
        write_shard(*args)
        time.sleep(seconds_per_shard)

    job.write_shard, write_corpus.__kwdefaults__["lines_per_shard"] = slowly, 10
    try:
        vokenize(Corpus(world_folder / "corpus.txt"), Vokenizer.from_pretrained(vokenizer_folder), out, resume=resume)
    finally:
        job.write_shard, write_corpus.__kwdefaults__["lines_per_shard"] = write_shard, kept


def test_a_killed_job_resumed_leaves_the_same_folder(world_folder, vokenizer_folder, tmp_path, kill_when):
    killed = tmp_path / "killed"
    vokenize_here(world_folder, vokenizer_folder, tmp_path / "whole", False, 0)
    second = shard_path(killed, 1)
    kill_when(second.exists, vokenize_here, world_folder, vokenizer_folder, killed, False, 0.2)
    assert 2 <= len(shards(killed)) < NUM_SHARDS
    vokenize_here(world_folder, vokenizer_folder, killed, True, 0)
    assert shards(killed) == shards(tmp_path / "whole")
    assert len(shards(killed)) == NUM_SHARDS
