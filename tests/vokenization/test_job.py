import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import transformers

from sightread.bank import ImageBank
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import VokenCorpus, shard_path
from sightread.encoders.text import tokenizer_digest
from sightread.errors import ArtifactError, ConfigError, DataError, SightreadError
from sightread.runtime import keyed_rng
from sightread.vokenization import job
from sightread.vokenization.baselines import random_vokens
from sightread.vokenization.engines import here, in_processes
from sightread.vokenization.job import cut, engine_of, tokenize, vokenize
from sightread.vokenization.revokenize import revokenize
from sightread.vokenization.summary import Progress
from sightread.vokenization.verify import Agreement, verify
from sightread.vokenization.work import Vokenize
from sightread.vokenizer import Vokenizer

SIZE = 90  # characters in a shard: two or three lines of the world's text


@pytest.fixture(scope="module")
def vokenizer(vokenizer_folder):
    return Vokenizer.from_pretrained(vokenizer_folder)


@pytest.fixture(scope="module")
def corpus(world_folder):
    return Corpus(world_folder / "corpus.txt")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shards(folder):
    return {name: data for name, data in sorted(contents(folder).items()) if name.startswith("shard")}


def in_small_shards(corpus, vokenizer, out, **options):
    return vokenize(corpus, vokenizer, out, shard_size=SIZE, **options)


@pytest.fixture(scope="module")
def whole(corpus, vokenizer, tmp_path_factory):
    """What a job leaves that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "vokens"
    in_small_shards(corpus, vokenizer, folder)
    assert len(shards(folder)) > 20
    return contents(folder)


def test_vokens_are_those_of_the_vokenizer_token_by_token(vokenizer, corpus, tmp_path):
    made = in_small_shards(corpus, vokenizer, tmp_path / "vokens")
    lines, texts = list(made), list(corpus)
    assert (len(made), made.num_vokens) == (80, 24)
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
    vokens = np.concatenate([line.voken_ids for line in made])
    pairs = {(t, v) for line in made for t, v in zip(line.token_ids.tolist(), line.voken_ids.tolist(), strict=True)}
    assert report["pictures_used"] == len(np.unique(vokens))
    assert report["pictures_per_type"] == len(pairs) / len({token for token, _ in pairs})
    kept = transformers.AutoTokenizer.from_pretrained(voken_corpus_folder / "tokenizer")
    assert tokenizer_digest(kept) == inputs["tokenizer"]


ODD = ["a box", "\u200b", "zzz \u00e9\u0301 \U0001f600", "the \u2028 cup", "\u0000", "x" * 300]


def test_lines_without_tokens_and_strange_characters_keep_their_place(vokenizer, tmp_path):
    (tmp_path / "odd.txt").write_text("\n".join(ODD), encoding="utf-8")
    made = vokenize(Corpus(tmp_path / "odd.txt"), vokenizer, tmp_path / "vokens", shard_size=10)
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


def test_a_slow_tokenizer_is_refused_before_anything_is_written(corpus, tmp_path):
    with pytest.raises(DataError, match="ByT5Tokenizer is a slow tokenizer"):
        tokenize(corpus, transformers.ByT5Tokenizer(), tmp_path / "tokens")
    assert not list(tmp_path.iterdir())


def test_the_best_pictures_are_those_of_brute_force(vokenizer, corpus, whole, tmp_path):
    made = in_small_shards(corpus, vokenizer, tmp_path / "vokens", top=5)
    ids, scores = made.flat_top()
    expected = np.concatenate([
        vokenizer.token_vectors([line.token_ids])[0].double() @ vokenizer.bank.vectors.T.astype(np.float64)
        for line in made
    ])  # fmt: skip
    best = np.argsort(-expected, axis=1, kind="stable")[:, :5]
    assert ids.tolist() == best.tolist()
    assert np.abs(scores - np.take_along_axis(expected, best, axis=1)).max() < 1e-6
    assert (ids.dtype, scores.dtype, made.top) == (np.int32, np.float32, 5)
    assert made.flat()[1].tolist() == ids[:, 0].tolist()
    assert verify(made, vokenizer, 5).share == 1
    in_small_shards(corpus, vokenizer, tmp_path / "one", top=1)
    assert contents(tmp_path / "one") == whole  # which knows nothing of them
    plain = VokenCorpus(tmp_path / "one")
    assert all(np.array_equal(a, b) for a, b in zip(made.flat(), plain.flat(), strict=True))
    with pytest.raises(ConfigError, match=r"keeps one voken a token.*--top"):
        plain.flat_top()


def test_best_pictures_are_not_mixed_on_resume_and_no_more_than_there_are(vokenizer, corpus, stopped, tmp_path):
    with pytest.raises(ArtifactError, match="another top"):
        in_small_shards(corpus, vokenizer, stopped, top=2, resume=True)
    for top in (0, 25):
        with pytest.raises(ConfigError, match=f"top={top}: expected between 1 and the 24"):
            in_small_shards(corpus, vokenizer, tmp_path / "other", top=top)
    assert not (tmp_path / "other").exists()


class Stopped(Exception):
    pass


def two_shards(work, tasks):
    """An engine that breaks down."""
    yield from itertools.islice(here(work, tasks), 2)
    raise Stopped


@pytest.fixture
def stopped(vokenizer, corpus, tmp_path):
    """A job that stopped after its second shard."""
    with pytest.raises(Stopped):
        in_small_shards(corpus, vokenizer, tmp_path / "stopped", engine=two_shards)
    assert len(shards(tmp_path / "stopped")) == 2
    return tmp_path / "stopped"


def test_a_stopped_job_resumed_leaves_the_same_folder(vokenizer, corpus, stopped, whole):
    with pytest.raises(ArtifactError, match="unfinished"):
        VokenCorpus(stopped)
    with pytest.raises(ArtifactError, match=r"unfinished voken-corpus.*--resume"):
        in_small_shards(corpus, vokenizer, stopped)
    (stopped / ".shard-00002.parquet.1.tmp").write_bytes(b"half a sha")  # where it was killed while it wrote
    before = [shard_path(stopped, i).stat().st_mtime_ns for i in range(2)]
    in_small_shards(corpus, vokenizer, stopped, resume=True)
    assert contents(stopped) == whole
    assert [shard_path(stopped, i).stat().st_mtime_ns for i in range(2)] == before


def test_shards_that_are_missing_anywhere_are_made(vokenizer, corpus, stopped, whole):
    for index in (0, 5, 6):  # as several workers may leave it
        shard_path(stopped, index).unlink(missing_ok=True)
    (stopped / "shard-00009.parquet").write_bytes(whole["shard-00009.parquet"])
    in_small_shards(corpus, vokenizer, stopped, resume=True)
    assert contents(stopped) == whole


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
            in_small_shards(changed, with_vokenizer, stopped, resume=True)
    assert len(shards(stopped)) == 2


@pytest.mark.parametrize(
    ("file", "former", "changed"),
    [
        ("manifest.json", '"max_length": 24', '"max_length": 6'),
        ("manifest.json", '"level": "token"', '"level": "sentence"'),
        ("text_encoder/config.json", '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-2'),
        ("text_encoder/tokenizer_config.json", '"model_max_length": 512', '"model_max_length": 5'),
    ],
)
def test_a_vokenizer_that_reads_otherwise_is_refused_on_resume(
    vokenizer_folder, corpus, stopped, tmp_path, file, former, changed
):
    path = shutil.copytree(vokenizer_folder, tmp_path / "vokenizer") / file
    assert former in path.read_text()
    path.write_text(path.read_text().replace(former, changed))
    with pytest.raises(ArtifactError, match="cannot be resumed"):
        in_small_shards(corpus, Vokenizer.from_pretrained(tmp_path / "vokenizer"), stopped, resume=True)


def test_a_finished_job_is_not_done_again(vokenizer, corpus, voken_corpus_folder, tmp_path):
    shutil.copytree(voken_corpus_folder, tmp_path / "vokens")
    before = shards(tmp_path / "vokens")
    assert len(vokenize(corpus, vokenizer, tmp_path / "vokens", engine=None, resume=True)) == 80
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


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_leave_the_same_folder(corpus, vokenizer, tmp_path, whole, workers):
    in_small_shards(corpus, vokenizer, tmp_path / "vokens", engine=partial(in_processes, workers=workers))
    assert contents(tmp_path / "vokens") == whole


class Slow:
    """A work that takes its time, and notes who does it."""

    def __init__(self, work, seconds, note=None):
        self.work, self.num_vokens, self.seconds, self.note = work, work.num_vokens, seconds, note

    def __call__(self, index, task, clock):
        if self.note:
            (self.note / str(os.getpid())).touch()
        time.sleep(self.seconds)
        return self.work(index, task, clock)


def slowly(work, tasks, engine=here, **slow):
    return engine(Slow(work, **slow), tasks)


def vokenize_slowly(world_folder, vokenizer_folder, out, workers, note=None):
    """A job that is to be killed."""
    engine = partial(slowly, engine=engine_of("local", workers), seconds=0.03, note=note)
    corpus, vokenizer = Corpus(world_folder / "corpus.txt"), Vokenizer.from_pretrained(vokenizer_folder)
    in_small_shards(corpus, vokenizer, out, engine=engine, resume=True)


def test_a_job_killed_ten_times_leaves_the_same_folder(
    corpus, vokenizer, world_folder, vokenizer_folder, tmp_path, kill_when, whole
):
    out = tmp_path / "killed"
    for kill in range(10):
        rng, before = keyed_rng(0, kill), len(shards(out)) if out.exists() else 0
        more, moment = int(rng.integers(0, 3)), float(rng.random() * 0.04)

        def far_enough(wanted=before + more, moment=moment):
            if not (out / "run.json").exists() or len(list(out.glob("shard-*"))) < wanted:
                return False
            time.sleep(moment)
            return True

        kill_when(far_enough, vokenize_slowly, world_folder, vokenizer_folder, out, 1 + kill % 2)
    assert 5 < len(shards(out)) < len(whole)
    in_small_shards(corpus, vokenizer, out, resume=True)
    assert contents(out) == whole


def test_workers_die_with_the_job(world_folder, vokenizer_folder, tmp_path, kill_when):
    (note := tmp_path / "note").mkdir()
    kill_when(
        lambda: len(list(note.iterdir())) == 2,
        vokenize_slowly,
        world_folder,
        vokenizer_folder,
        tmp_path / "out",
        2,
        note,
    )
    for _ in range(100):
        if not any(Path(f"/proc/{pid.name}").exists() for pid in note.iterdir()):
            return
        time.sleep(0.05)
    pytest.fail("a worker lives on")


class Killed:
    """A work whose worker is killed at one shard, once."""

    def __init__(self, work, once):
        self.work, self.num_vokens, self.once = work, work.num_vokens, once

    def __call__(self, index, task, clock):
        if index == 5 and not self.once.exists():
            self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work(index, task, clock)


def test_a_dead_worker_is_told_and_the_job_can_go_on(corpus, vokenizer, tmp_path, whole):
    def engine(work, tasks):
        return in_processes(Killed(work, tmp_path / "once"), tasks, workers=2)

    with pytest.raises(SightreadError, match=r"a worker died.*--resume.*--workers than 2"):
        in_small_shards(corpus, vokenizer, tmp_path / "vokens", engine=engine)
    in_small_shards(corpus, vokenizer, tmp_path / "vokens", engine=engine, resume=True)
    assert contents(tmp_path / "vokens") == whole


def test_a_full_disk_is_told_and_the_job_can_go_on(corpus, vokenizer, tmp_path, whole, monkeypatch):
    def full(path, data):
        if path == shard_path(tmp_path / "vokens", 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    write = job.write_atomic
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_atomic", full)
        with pytest.raises(ArtifactError, match=r"cannot write .*shard-00003.*No space left.*--resume"):
            in_small_shards(corpus, vokenizer, tmp_path / "vokens", engine=partial(in_processes, workers=2))
    in_small_shards(corpus, vokenizer, tmp_path / "vokens", resume=True)
    assert contents(tmp_path / "vokens") == whole


@pytest.mark.slow
def test_sigterm_ends_with_a_code_of_its_own(vokenizer_folder, world_folder, tmp_path):
    text = (world_folder / "corpus.txt").read_text().splitlines()
    lines = [" ".join(keyed_rng(i).permutation(text)[:20]) for i in range(2_000)]
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    out, command = tmp_path / "out", "from sightread.cli import app; app()"
    verb = ["vokenize", "--corpus", tmp_path / "corpus.txt", "--vokenizer", vokenizer_folder, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *map(str, verb), "--workers", "2"], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (out.exists() and shards(out)):
        time.sleep(0.05)
    process.terminate()
    message = process.communicate()[1]
    assert process.returncode == 143, message
    assert "stopped; what was written is kept, go on with --resume" in message
    assert (out / "run.json").exists()
    assert not (out / "manifest.json").exists()


class Faulty:
    """A work with a bug."""

    num_vokens = 3

    def __call__(self, index, task, clock):
        raise RuntimeError("a bug")


@pytest.mark.parametrize("engine", [here, partial(in_processes, workers=2)], ids=["here", "processes"])
def test_an_error_says_where_it_was(engine):
    with pytest.raises(RuntimeError, match="a bug") as error:
        list(engine(Faulty(), [(7, ["the red box"])]))
    assert error.value.__notes__ == ["in shard 7, of ['the red box']"]


def test_a_corpus_without_text_is_refused(vokenizer, tmp_path):
    (tmp_path / "corpus.txt").write_text("  \n\n")
    with pytest.raises(DataError, match=r"corpus.txt has no line with text"):
        vokenize(Corpus(tmp_path / "corpus.txt"), vokenizer, tmp_path / "vokens")
    with pytest.raises(ConfigError, match="shard_size=0"):
        vokenize(Corpus(tmp_path / "corpus.txt"), vokenizer, tmp_path / "other", shard_size=0)


def test_the_time_that_is_left_counts_from_what_was_there(monkeypatch):
    now, said = itertools.count(step=100), []
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    progress = Progress(said.append)  # begins at 0
    progress.share, progress.found = 0.95, 0.9
    with progress:
        progress.add(1000, {"encoding": 1.0})  # five of the hundredths in 200 seconds: as many are left
    assert said == ["1,000 tokens, 3 tokens/s, about 95% done, 3 minutes left"]


def test_tasks_are_not_read_far_ahead(vokenizer):
    handed_out, most = 0, 0

    def tasks():
        nonlocal handed_out
        for index in range(40):
            handed_out += 1
            yield index, [f"the box is red . {index}"]

    for done, _ in enumerate(in_processes(Vokenize(vokenizer), tasks(), workers=2)):
        most = max(most, handed_out - done)
    assert handed_out == 40
    assert most <= 6


def test_shards_grow_so_that_large_corpora_make_few():
    lines = ["x" * 10] * 9000
    parts = list(cut(lines, 100))
    assert [line for part in parts for line in part] == lines
    assert [len(part) for part in parts[:-1]] == [10 << min(i // 64, 3) for i in range(len(parts) - 1)]
    assert list(cut([], 100)) == []
    assert list(cut(["x" * 1000, "y"], 100)) == [["x" * 1000], ["y"]]


def test_lines_that_are_the_same_are_read_once(vokenizer, tmp_path):
    (tmp_path / "corpus.txt").write_text("the red box\na cup\nthe red box\n" * 20)
    read = []
    hook = vokenizer.text_encoder.register_forward_hook(lambda _, args, __: read.append(args[0].numel()))
    made = vokenize(Corpus(tmp_path / "corpus.txt"), vokenizer, tmp_path / "vokens")
    hook.remove()
    assert sum(read) == 3 + 2 + 2 * 2  # tokens, special ones included
    for line in made:
        assert line.voken_ids.tolist() == [token.rows[0] for token in vokenizer([line.text])[0]]


@pytest.mark.parametrize("at_once", [1, 20, 1 << 24])
def test_verifying_finds_vokens_that_are_wrong(vokenizer, corpus, built_tokenizers, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("sightread.vokenization.verify._SCORES_AT_ONCE", at_once)
    made = in_small_shards(corpus, vokenizer, tmp_path / "vokens")
    found = verify(made, vokenizer, 30)
    assert (found.lines, found.same + found.tied, found.share) == (30, found.tokens, 1.0)
    assert verify(made, vokenizer, 1000).tokens == made.num_tokens
    assert "30 lines agree with brute force (100.000%)" in str(found)
    random = random_vokens(made, vokenizer.tokenizer, tmp_path / "random", seed=0)
    assert verify(random, vokenizer, 80).share < 0.3
    other = revokenize(made, built_tokenizers["byte-level"], tmp_path / "other")
    with pytest.raises(ArtifactError, match="the tokenizer does not fit"):
        verify(other, vokenizer, 3)


def test_the_share_that_agrees_is_of_the_number_beside_it():
    said = str(Agreement(lines=3, tokens=200, same=190, tied=6))
    assert said == "196 of 200 vokens in 3 lines agree with brute force (98.000%), 6 of them as ties to within rounding"


def test_bf16_is_bf16_and_says_so(vokenizer, corpus, tmp_path):
    low = vokenizer.reading(precision="bf16")
    ids = np.array(vokenizer.tokenizer("the red box", add_special_tokens=False)["input_ids"])
    gap = (low.token_vectors([ids])[0] - vokenizer.token_vectors([ids])[0]).abs().max()
    assert 1e-5 < gap < 0.1
    made = vokenize(corpus, vokenizer, tmp_path / "vokens", precision="bf16")
    assert made.artifact.inputs["precision"] == "bf16"
    with pytest.raises(ArtifactError, match="another precision"):
        vokenize(corpus, vokenizer, tmp_path / "vokens", resume=True)
    with pytest.raises(ConfigError, match="precision"):
        vokenize(corpus, vokenizer, tmp_path / "other", precision="fp8")


def test_a_device_that_is_named_by_its_number_is_the_only_one(monkeypatch):
    monkeypatch.setenv("SIGHTREAD_DEVICE", "cuda:1")
    assert engine_of("local", None) is here


def test_engines_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match="'slurm'"):
        engine_of("slurm", None)
    with pytest.raises(ConfigError, match="at least one"):
        engine_of("local", 0)
    assert engine_of("local", 1) is here


def test_the_job_tells_how_it_went(vokenizer, corpus, tmp_path):
    said = []
    in_small_shards(corpus, vokenizer, tmp_path / "vokens", say=said.append)
    report = VokenCorpus(tmp_path / "vokens").artifact.report
    assert f"{report['tokens']:,} tokens in" in said[0]
    assert all(f"{stage} " in said[0] for stage in ("tokenizing", "encoding", "searching", "writing"))
    assert said[1].startswith(f"{report['pictures_used']} of 24 pictures chosen")
