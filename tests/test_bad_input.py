"""The user's faults: each is one line that says what to do, exit 2, and no harm done. Ours are exit 1."""

import json
import re
import shlex
import shutil
import struct
import zlib

import datasets
import numpy as np
import pytest
from PIL import Image
from transformers import AutoModel, AutoTokenizer, ByT5Tokenizer
from typer.testing import CliRunner

from sightread.artifacts import MANIFEST
from sightread.bank import ImageBank
from sightread.cli import app
from sightread.encoders.text import build_word_tokenizer

QUICK = "--set max_steps=1 --set per_device_train_batch_size=4"
WORLD = "world --set num_scenes=2 --set num_sentences=3"
BANK = "bank --image-encoder {image_encoder} --out {out}"
MATCH = f"match --text-encoder {{text_encoder}} --image-encoder {{image_encoder}} --set layers=-1 {QUICK} --out {{out}}"
VOKENIZE = "vokenize --vokenizer {vokenizer} --out {out}"
PRETRAIN = f"pretrain --vokens {{vokens}} --set max_length=48 {QUICK} --out {{out}}"
FINETUNE = f"finetune --encoder {{text_encoder}} --task world {QUICK} --out {{out}}"
BASELINE = "baseline --vokens {vokens} --out {out}"
TINY = f"--start {{text_encoder}} --set max_length=48 {QUICK} --out {{out}}"
CONTRAST = f"contrast --vokens {{vokens}} --image-encoder {{image_encoder}} {TINY}"
DISTILL = f"distill --vokens {{vokens}} {TINY}"
CLIP = "clip --model {text_encoder} --images {world}/images --out {out}"
NOISE = "noise --start {text_encoder} --out {out}"
SHOW = "show 'a red box' --vokenizer {vokenizer} --out {out}"

FAULTS = {  # what is wrong: (command, what the one line says)
    "no such pictures": (f"{BANK} --images {{bad}}/nowhere", "no folder of pictures at .*nowhere"),
    "no pictures in it": (f"{BANK} --images {{bad}}/empty", r"no pictures below .*empty"),
    "no such captions": (f"{MATCH} --captions {{bad}}/nowhere.tsv", "no captions file at .*nowhere.tsv"),
    "no captions in folder": (f"{MATCH} --captions {{bad}}/empty", "no captions in .*empty: expected one of"),
    "empty captions file": (f"{MATCH} --captions {{bad}}/empty.tsv", "empty.tsv holds no captions"),
    "captions of nothing": (f"{MATCH} --captions {{bad}}/unknown.tsv --images {{world}}/images",
                            r"3 of 5 captions .*unknown picture: 3 \(first: .*unknown.tsv:2 \(cat.jpg\)"),
    "only what is not there": (f"{MATCH} --captions {{world}} --only {{bad}}/ids.txt", "none of the 1 listed pictures"),
    "no list to use": (f"{BANK} --images {{world}}/images --only {{bad}}/nowhere", "cannot read the list .*nowhere"),
    "no such corpus": (f"{VOKENIZE} --corpus {{bad}}/nowhere.txt", "no text at .*nowhere.txt"),
    "corpus of no text": (f"{VOKENIZE} --corpus {{bad}}/latin1.txt", r"3 of 5 lines .*not UTF-8: 3 .*latin1.txt:1"),
    "corpus is half a gzip": (f"{VOKENIZE} --corpus {{bad}}/half.txt.gz", "half.txt.gz is a broken gzip file"),
    "no such vokens": ("pretrain --vokens {bad}/nowhere --start {text_encoder} --out {out}", "no folder .*nowhere"),
    "no vokens at all": ("pretrain --vokens {vokenizer} --start {text_encoder} --out {out}",
                         "is a vokenizer, expected a voken-corpus"),
    "no such encoder": (f"{FINETUNE} --data {{world}}/tasks/color --encoder {{bad}}/nowhere", "no model folder at"),
    "no encoder in it": (f"{FINETUNE} --data {{world}}/tasks/color --encoder {{bad}}/empty", "cannot be loaded as a"),
    "no such task data": (f"{FINETUNE} --data {{bad}}/nowhere", "no train.tsv in .*nowhere"),
    "no such task": (f"{FINETUNE} --data {{world}}/tasks/color --task rta", "task is 'rta'.*did you mean 'rte'"),
    "no seeds": (f"{FINETUNE} --data {{world}}/tasks/color --seeds 0", "seeds"),
    "negative seeds": (f"{FINETUNE} --data {{world}}/tasks/color --seeds -2", "seeds"),
    "too few worlds": ("demo --seeds 0 --out {out}", "--seeds 0: an interval needs at least 2"),
    "negative worlds": ("demo --seeds -1 --out {out}", "--seeds -1"),
    "other tokenizer": (f"{PRETRAIN} --start {{bad}}/letters", "the tokenizer does not fit: .*sightread revokenize"),
    "other bank": (f"{PRETRAIN} --start {{text_encoder}} --objective regression --bank {{bad}}/bank",
                   "the bank does not fit: .* give the bank inside the vokenizer"),
    "bank of another encoder": (f"{MATCH} --captions {{world}} --bank {{bad}}/narrow", "are 5 wide, .* gives 12"),
    "no bank": (f"{PRETRAIN} --start {{text_encoder}} --objective regression", "needs the features .* give --bank"),
    "slow tokenizer": ("revokenize --vokens {vokens} --tokenizer {bad}/slow --out {out}",
                       "ByT5Tokenizer is a slow tokenizer"),
    "start is no config": (f"{PRETRAIN} --start {{bad}}/ids.json", "ids.json is no Hugging Face model config"),
    "blocks too long": (f"{PRETRAIN} --start {{text_encoder}} --set max_length=100", "max_length=100"),
    "layers there are not": (f"{MATCH} --captions {{world}} --set layers=-9", r"layers \[-9\]: .* states -3 to 2"),
    "k too large": (f"{SHOW} --k 25", "k=25: expected between 1 and the 24 pictures"),
    "k too small": (f"{SHOW} --k 0", "k=0: expected between 1"),
    "empty sentence": ("show ' ' --vokenizer {vokenizer} --out {out}", "the sentence is empty"),
    "no vokenizer": ("show dog --vokenizer {world} --out {out}", "is a world, expected a vokenizer"),
    "not even a folder": ("show dog --vokenizer {bad}/nowhere --out {out}", "no folder .*nowhere"),
    "no such name": ("show dog --vokenizer nobody/nothing --out {out}", "nobody/nothing"),
    "no such data set": (f"{VOKENIZE} --corpus hf:nobody/nothing", "nobody/nothing"),
    "no such split": (f"{VOKENIZE} --corpus {{bad}}/saved --split tset", "'tset'.*train"),
    "no such column": (f"{VOKENIZE} --corpus {{bad}}/saved --text-column txt", "columns text; no 'txt'"),
    "unknown setting": ("world --out {out} --set num_nuons=96", "setting 'num_nuons'; did you mean 'num_nouns'"),
    "unknown argument": (f"{FINETUNE} --data {{world}}/tasks/color --set learning_rat=1", "mean 'learning_rate'"),
    "wrong type": ("world --out {out} --set num_nouns=many", "num_nouns=many: .*valid integer"),
    "argument's type": (f"{FINETUNE} --data {{world}}/tasks/color --set learning_rate=fast", "learning_rate=fast"),
    "several at once": ("world --out {out} --set seed=x --set y=2 --set z", "(?=.*'z' is not)(?=.*'y')(?=.*seed=x)"),
    "a world of no size": ("world --out {out} --set num_nouns=50", "num_nouns=50: expected a multiple of 96"),
    "objective": (f"{PRETRAIN} --start {{text_encoder}} --objective clasification", "did you mean 'classification'"),
    "matching objective": (f"{MATCH} --captions {{world}} --set objective=infonce", "did you mean 'info_nce'"),
    "choice": (f"{BANK} --images {{world}}/images --size 3 --choose divers", "did you mean 'diverse'"),
    "choice of nothing": (f"{BANK} --images {{world}}/images --choose divers", "did you mean 'diverse'"),
    "pooling": (f"{FINETUNE} --data {{world}}/tasks/color --set pooling=fist", "did you mean 'first'"),
    "a bank too large": (f"{BANK} --images {{world}}/images --size 25", "a bank of 25 pictures .* there are 24"),
    "half an epoch": (f"{FINETUNE} --data {{world}}/tasks/color --set max_steps=-1 --set num_train_epochs=0.5",
                      "num_train_epochs=0.5: expected a whole number"),
    "world below a file": (f"{WORLD} --out {{bad}}/ids.txt/out", "cannot write to .*ids.txt/out.*--out"),
    "bank below a file": ("bank --images {world}/images --image-encoder {image_encoder} --out {bad}/ids.txt/out",
                          "cannot write to .*ids.txt/out"),
    "strip below a file": ("show dog --vokenizer {vokenizer} --out {bad}/ids.txt/out", "cannot write .*ids.txt/out"),
    "scores below a file": ("retrieval --vokenizer {vokenizer} --captions {world} --json {bad}/ids.txt/out",
                            "cannot write .*ids.txt/out"),
    "files of others": (f"{WORLD} --out {{bad}} --overwrite", "no sightread folder .*not overwritten"),
    "nothing to resume": (f"{VOKENIZE} --corpus {{world}}/corpus.txt --out {{bad}} --resume", "nothing to resume"),
    "no such baseline": (f"{BASELINE} --kind frequency", "did you mean 'term-frequency'"),
    "frequency of nothing": (f"{BASELINE} --kind term-frequency", "term-frequency needs --captions and --bank"),
    "bank for a lot": (f"{BASELINE} --kind random --bank {{bad}}/bank", "the other kinds take neither"),
    "no distribution": (f"{BASELINE} --kind term-frequency --captions {{world}} --bank {{bad}}/bank --temperature 0",
                        "temperature=0.0: expected a positive number"),
    "top too large": (f"{VOKENIZE} --corpus {{world}}/corpus.txt --top 25", "top=25: expected between 1 and the 24"),
    "soft of one": (f"{PRETRAIN} --start {{text_encoder}} --objective soft", "vokenize with --top 5"),
    "no CLIP": (CLIP, "give a CLIP or a SigLIP"),
    "no such level": (f"{CLIP} --level word", "level is 'word'"),
    "contrast of nothing": (f"{CONTRAST} --captions {{bad}}/nowhere.tsv", "no captions file at .*nowhere.tsv"),
    "contrast of no layer": (f"{CONTRAST} --captions {{world}} --set layer=3", "layer=3: .* states -3 to 2"),
    "no such teacher": (f"{DISTILL} --teacher {{bad}}/nowhere", "no model folder at"),
    "teacher of other words": (f"{DISTILL} --teacher {{bad}}/letters", "the teacher's tokenizer does not fit"),
    "noise like no encoder": (f"{NOISE} --like {{vokenizer}}", "is a vokenizer, expected an encoder"),
    "noise like nothing": (f"{NOISE} --like {{bad}}/nowhere", "no model folder at"),
    "no such recipe": ("compare recipes.vokenization:tabel5 --out {out}", "did you mean 'recipes.vokenization:table5'"),
    "recipe with a dot": ("compare recipes.vokenization.table5 --out {out}", "mean 'recipes.vokenization:table5'"),
    "what recipes are there": ("compare recipes --out {out}", "expected one of recipes.flickr8k:flickr8k, "),
    "recipe beside scores": ("compare {world} recipes.world:demo --out {out}", "one recipe at a time"),
    "data for a world": ("compare recipes.world:demo --data {world} --out {out}", "makes its own data"),
    "argument within": ("compare recipes.world:demo --set num_train_epochs=1 --out {out}",
                        "did you mean .* or 'pretraining.num_train_epochs'"),
    "recipe's setting": ("compare recipes.world:demo --set num_picture=9 --out {out}", "did you mean 'num_pictures'"),
    "recipe without its model": ("compare recipes.flickr8k:flickr8k --data {world} --out {out}", "--set text_encoder="),
    "data for scores": ("compare {world} --data {world} --out {out}", "are for recipes"),
    "too many bad pictures": (f"{BANK} --images {{bad}}/mixed", r"3 of 12 pictures are bad.*--max-skipped"),
}  # fmt: skip


def png_header(width, height):
    """A PNG of a few bytes that says it is this large."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end


def bad_pictures(folder, world):
    """Nine pictures, half a JPEG, text that calls itself one, and a bomb."""
    folder.mkdir()
    for picture in sorted((world / "images").iterdir())[:9]:
        shutil.copy(picture, folder)
    whole = folder / "whole.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole)
    (folder / "half.jpg").write_bytes(whole.read_bytes()[:400])
    whole.unlink()
    (folder / "text.jpg").write_text("no picture")
    (folder / "bomb.png").write_bytes(png_header(50_000, 50_000))


@pytest.fixture(scope="module")
def bad(world_folder, text_encoder_folder, tmp_path_factory):
    """A folder of bad things."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty").mkdir()
    (folder / "empty.tsv").write_text("\n")
    (folder / "ids.txt").write_text("cat.jpg\n")
    (folder / "ids.json").write_text('["cat.jpg"]')
    names = ["scene-00001.png#0", "cat.jpg#0", "cat.jpg#1", "dog.jpg#0", "scene-00002.png#0"]
    (folder / "unknown.tsv").write_text("".join(f"{name}\ta red box .\n" for name in names))
    (folder / "latin1.txt").write_bytes(b"caf\xe9\n" * 3 + b"a box\na cup\n")
    (folder / "half.txt.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc")
    ByT5Tokenizer().save_pretrained(folder / "slow")
    AutoModel.from_pretrained(text_encoder_folder).save_pretrained(folder / "pooled")
    AutoTokenizer.from_pretrained(text_encoder_folder).save_pretrained(folder / "pooled")
    shutil.copytree(text_encoder_folder, folder / "letters")
    build_word_tokenizer(["a b c d e f g h i j k l m n o p q r s t u v w x y z ."]).save_pretrained(folder / "letters")
    text = datasets.Dataset.from_dict({"text": ["a red box"]})
    datasets.DatasetDict({"train": text}).save_to_disk(folder / "saved")
    bad_pictures(folder / "mixed", world_folder)
    pictures = sorted((world_folder / "images").iterdir())
    features = np.random.default_rng(0).normal(size=(24, 5))
    bank = ImageBank([path.name for path in pictures], features, list(map(str, pictures)))
    bank.save(folder / "narrow")
    features = np.concatenate([features, features, features[:, :2]], axis=1)  # as wide as the vokenizer's
    ImageBank(bank.ids, features, bank.paths).save(folder / "bank")
    return folder


@pytest.fixture
def folders(
    bad, world_folder, text_encoder_folder, image_encoder_folder, vokenizer_folder, voken_corpus_folder, tmp_path
):
    return {
        "bad": bad, "world": world_folder, "text_encoder": text_encoder_folder, "image_encoder": image_encoder_folder,
        "vokenizer": vokenizer_folder, "vokens": voken_corpus_folder, "out": tmp_path / "out",
    }  # fmt: skip


def sightread(command, **folders):
    return CliRunner().invoke(app, [word.format(**folders) for word in shlex.split(command)])


def complaint(result):
    """What was said on standard error, but for progress bars."""
    return [line for line in result.stderr.splitlines() if line and "it/s]" not in line]


@pytest.mark.parametrize(("command", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line(command, message, folders):
    result = sightread(command, **folders)
    assert result.exit_code == 2, result.output
    (line,) = complaint(result)
    assert line.startswith("sightread: ")
    assert re.search(message, line), line


@pytest.mark.parametrize("name", ["no such pictures", "wrong type", "no vokenizer", "slow tokenizer"])
def test_debug_shows_where(name, folders):
    command, message = FAULTS[name]
    result = sightread(f"--debug {command}", **folders)
    assert result.exit_code == 2
    first, *_, last = complaint(result)
    assert first == "Traceback (most recent call last):"
    assert re.search(message, last)
    assert len(complaint(sightread(command, **folders))) == 1, "--debug lasts for one command"


def test_progress_bars_are_for_terminals(folders):
    result = sightread(FAULTS["k too large"][0], **folders)
    assert result.stderr.count("\n") == 1, result.stderr


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("boom"), OSError("boom")])
def test_our_own_errors_are_exit_1_with_a_traceback(error, monkeypatch, tmp_path):
    def breaks(*_, **__):
        raise error

    monkeypatch.setattr("sightread.data.world.write_world", breaks)
    result = sightread("world --out {out}", out=tmp_path / "out")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "boom" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("sightread: this is a bug in sightread")


def test_stopping_is_exit_130(monkeypatch, tmp_path):
    def stops(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sightread.data.world.write_world", stops)
    result = sightread("world --out {out}", out=tmp_path / "out")
    assert (result.exit_code, "--resume" in result.stderr) == (130, True)


def test_bad_pictures_below_the_share_are_listed(folders):
    result = sightread(f"{BANK} --images {{bad}}/mixed --max-skipped 0.3", **folders)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"9 pictures in {folders['out']}\n"
    skipped = json.loads((folders["out"] / MANIFEST).read_text())["report"]["skipped"]
    reasons = {name: reason for reason, found in skipped.items() for name in found["first"]}
    assert set(reasons) == {"half.jpg", "text.jpg", "bomb.png"}
    assert reasons["bomb.png"].startswith("picture too large")
    assert reasons["half.jpg"].startswith("broken picture")
    lines = complaint(result)
    assert all(line.startswith("skipped ") for line in lines)
    assert all(any(name in line for line in lines) for name in reasons)


@pytest.mark.parametrize("verb", ["match", "retrieval"])
def test_max_skipped_counts_for_captioned_pictures_too(verb, folders, tmp_path):
    names = sorted(path.name for path in (folders["bad"] / "mixed").iterdir())
    (tmp_path / "captions.tsv").write_text("".join(f"{name}#0\ta red box .\n" for name in names))
    source = f"--captions {tmp_path}/captions.tsv --images {{bad}}/mixed --max-skipped 0.3"
    command = MATCH if verb == "match" else "retrieval --vokenizer {vokenizer}"
    result = sightread(f"{command} {source}", **folders)
    assert result.exit_code == 0, result.output
    assert all(name in result.stderr for name in ("half.jpg", "text.jpg", "bomb.png"))


def test_a_few_bad_captions_are_listed(folders, tmp_path):
    lines = [f"{path.name}#0\ta red box ." for path in sorted((folders["world"] / "images").iterdir())]
    lines[3:3] = ["cat.jpg#0\ta cat .", "scene-00001.png#1\t "]
    (tmp_path / "captions.tsv").write_text("\n".join(lines))
    result = sightread(f"{MATCH} --captions {tmp_path}/captions.tsv --images {{world}}/images", **folders)
    assert result.exit_code == 0, result.output
    assert complaint(result) == [
        f"skipped 1: caption of an unknown picture ({tmp_path}/captions.tsv:4 (cat.jpg))",
        f"skipped 1: empty caption ({tmp_path}/captions.tsv:5)",
    ]


def test_a_few_lines_that_are_not_utf8_are_listed(folders, tmp_path):
    (tmp_path / "text.txt").write_bytes(b"a red box\n" * 12 + b"caf\xe9\n" + b"a cup\n")
    result = sightread(f"{VOKENIZE} --corpus {tmp_path}/text.txt", **folders)
    assert result.exit_code == 0, result.output
    assert complaint(result)[-1] == f"skipped 1: not UTF-8 ({tmp_path}/text.txt:13)"
    assert "38 tokens in 13 lines" in result.stdout  # 12 × 3 + 2


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMMANDS = {
    "world": (f"{WORLD} --out {{out}}", "--set num_scenes=3"),
    "bank": (f"{BANK} --images {{world}}/images --size 3", "--size 4"),
    "match": (f"{MATCH} --captions {{world}}", "--set width=4"),
    "vokenize": (f"{VOKENIZE} --corpus {{world}}/corpus.txt", "--max-lines 3"),
    "revokenize": ("revokenize --vokens {vokens} --tokenizer {text_encoder} --out {out}", "--tokenizer {bad}/letters"),
    "pretrain": (f"{PRETRAIN} --start {{text_encoder}}", "--set lm_weight=0.5"),
    "baseline": (f"{BASELINE} --kind random", "--seed 1"),
    "contrast": (f"{CONTRAST} --captions {{world}}", "--set layer=0"),
    "distill": (f"{DISTILL} --teacher {{text_encoder}}", "--set nst_weight=0"),
    "noise": (f"{NOISE} --like {{text_encoder}}", "--seed 1"),
    "finetune": (f"{FINETUNE} --data {{world}}/tasks/color --seeds 1 --encoder {{bad}}/pooled", "--set pooling=mean"),
    "finetune, rows": (
        f"{FINETUNE} --data {{world}}/tasks/color --seeds 1 --encoder {{bad}}/pooled",
        "--set num_train=5",
    ),
}


@pytest.mark.parametrize(("command", "change"), COMMANDS.values(), ids=COMMANDS)
def test_a_result_is_neither_replaced_nor_mixed(command, change, folders):
    assert sightread(command, **folders).exit_code == 0
    before = contents(folders["out"])
    attempts = [f"{command} {change}"]
    if command.split()[0] not in {"world", "bank"}:
        attempts.append(f"{command} {change} --resume")
    for attempt, message in zip(attempts, ["already holds a finished", "cannot be resumed"], strict=False):
        result = sightread(attempt, **folders)
        assert contents(folders["out"]) == before
        assert result.exit_code == 2, result.output
        assert message in complaint(result)[0]


def test_a_cache_is_no_licence_to_delete(folders, tmp_path):
    """A cache of other pictures is replaced; anything else that lies there is not ours to delete."""
    vokenizer = shutil.copytree(folders["vokenizer"], tmp_path / "vokenizer")
    before = contents(vokenizer)
    result = sightread(f"{BANK} --images {{world}}/images --cache {vokenizer}", **folders)
    assert contents(vokenizer) == before
    assert result.exit_code == 2


def test_trying_whether_a_place_can_be_written_deletes_nothing(folders, tmp_path):
    (tmp_path / "strip.tmp").write_text("mine")
    result = sightread("show 'a red box' --vokenizer {vokenizer} --out {there}", **folders, there=tmp_path / "strip")
    assert result.exit_code == 0
    assert (tmp_path / "strip.tmp").exists()
    assert (tmp_path / "strip.tmp").read_text() == "mine"


def test_long_sentences_are_cut_to_what_the_encoder_reads(folders, tmp_path):
    """The tiny encoder has 64 positions though its tokenizer would give 512."""
    assert AutoTokenizer.from_pretrained(folders["text_encoder"]).model_max_length == 512
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text(f"sentence\tlabel\n{'box ' * 200}\tx\na box\ty\n")
    result = sightread(f"{FINETUNE} --data {tmp_path} --seeds 1", **folders)
    assert result.exit_code == 0, result.output
