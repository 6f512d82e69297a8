"""The verbs, from world to page, on a tiny world: what is promised is written, and nothing is written twice."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

from clip_models import build_model, build_tokenizer, save
from sightread.artifacts import MANIFEST, digest
from sightread.cli import app
from sightread.data.regions import RegionStore
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import build_word_tokenizer
from sightread.vokenizer import Vokenizer
from verbs import VERBS

STEPS = "--set max_steps=3 --set per_device_train_batch_size=8"
BLOCKS = f"{STEPS} --set max_length=48 --set logging_steps=1"
WORLD = "num_scenes=16 num_sentences=40 sentences_per_noun=1 harm_examples=8 image_size=32"

COMMANDS = {  # in order; {…} are folders
    "world": f"world --seed 3 --out {{dir}}/world {' '.join(f'--set {s}' for s in WORLD.split())}",
    "bank": "bank --images {dir}/world/images --image-encoder {image_encoder} --size 6 --choose diverse"
    " --cache {dir}/cache --out {dir}/bank",
    "match": "match --captions {dir}/world/captions.tsv --text-encoder {text_encoder} --image-encoder {image_encoder}"
    f" --cache {{dir}}/cache --set layers=-2,-1 --set width=8 --set hidden=8 {STEPS} --out {{dir}}/vokenizer",
    "clip": "clip --model {clip} --images {dir}/world/images --size 6 --out {dir}/clip-vokenizer",
    "retrieval": "retrieval --vokenizer {dir}/vokenizer --captions {dir}/world --json {dir}/scores.json",
    "passages": "passages --corpus {dir}/world/corpus.txt --corpus {dir}/world/corpus.txt --max-words 6 --seed 1"
    " --out {dir}/passages",
    "vokenize": "vokenize --corpus {dir}/world/corpus.txt --vokenizer {dir}/vokenizer --out {dir}/vokens",
    "revokenize": "revokenize --vokens {dir}/vokens --tokenizer {dir}/letters --out {dir}/vokens-letters",
    "vokenize --top": "vokenize --corpus {dir}/world/corpus.txt --vokenizer {dir}/vokenizer --top 3 --workers 1"
    " --out {dir}/vokens-top",
    "baseline": "baseline --vokens {dir}/vokens --kind term-frequency --captions {dir}/world/captions.tsv"
    " --bank {dir}/vokenizer/bank --out {dir}/frequency-vokens",
    "pretrain lm": "pretrain --vokens {dir}/vokens --start {text_encoder} --objective lm"
    f" {BLOCKS} --set logging_steps=2 --out {{dir}}/lm",
    "pretrain classification": "pretrain --vokens {dir}/vokens-letters --start {dir}/config.json"
    f" --objective classification {BLOCKS} --out {{dir}}/classification",
    "pretrain regression": "pretrain --vokens {dir}/vokens --start {text_encoder} --objective regression"
    f" --bank {{dir}}/vokenizer/bank --set head=dense {BLOCKS} --out {{dir}}/regression",
    "pretrain soft": "pretrain --vokens {dir}/vokens-top --start {text_encoder} --objective soft"
    f" {BLOCKS} --out {{dir}}/soft",
    "contrast": "contrast --vokens {dir}/vokens --captions {dir}/world --image-encoder {image_encoder}"
    f" --start {{text_encoder}} {BLOCKS} --out {{dir}}/contrast",
    "distill": "distill --vokens {dir}/vokens --teacher {dir}/contrast/encoder --start {text_encoder}"
    f" {BLOCKS} --out {{dir}}/distill",
    "noise": "noise --start {text_encoder} --like {dir}/contrast --out {dir}/noise",
    "joint": "joint --vokens {dir}/vokens --captions {dir}/world --image-encoder {image_encoder} --pooling regions-2"
    f" --start {{text_encoder}} {BLOCKS} --out {{dir}}/joint",
    "regions": "regions --images {dir}/world/images --detector {dir}/world/regions.jsonl --most 1"
    " --image-encoder {image_encoder} --out {dir}/regions",
    "unpaired": "unpaired --start {text_encoder} --regions {dir}/regions --captions {dir}/world/captions.tsv"
    f" --pairs --all-pictures --no-tags {BLOCKS} --out {{dir}}/unpaired",
    "towers": "towers --captions {dir}/world --image-encoder {image_encoder} --tokenizer {clip} --set hidden_size=16"
    f" --set num_layers=1 --set width=8 --set max_length=16 {STEPS} --out {{dir}}/towers",
    "xdbert": f"xdbert --vokens {{dir}}/vokens --start {{text_encoder}} --clip {{clip}} {BLOCKS} --out {{dir}}/xdbert",
    "associate": "associate --kind keyword --bank {dir}/bank --captions {dir}/world --out {dir}/association",
    "find": f"find --vokens {{dir}}/vokens --association {{dir}}/association --top 3 {BLOCKS} --out {{dir}}/pictures",
    "associative": "associative --vokens {dir}/vokens --start {text_encoder} --association {dir}/association"
    f" --pictures {{dir}}/pictures --set num_images=2 {BLOCKS} --out {{dir}}/associative",
    "finetune": "finetune --encoder {dir}/regression/encoder --task world --data {dir}/world/tasks/color --seeds 2"
    f" --set pooling=mean {STEPS} --out {{dir}}/scores",
    "analyze corpora": "analyze corpora text={dir}/world/corpus.txt captions={dir}/world/captions.tsv"
    " --captions captions --workers 1 --out {dir}/corpora",
    "serve": "serve --vokenizer tokens={dir}/vokenizer --vokenizer {dir}/clip-vokenizer --captions {dir}/world"
    " --corpus {dir}/vokens --port 0 --check",
    "analyze vokens": "analyze vokens {dir}/vokens-top --least 1 --out {dir}/voken-statistics",
    "analyze similarity": "analyze similarity one={text_encoder} {dir}/regression/encoder --text {dir}/world/corpus.txt"
    " --out {dir}/similarity",
    "analyze weights": "analyze weights {dir}/regression {dir}/noise --start {text_encoder} --out {dir}/weights",
    "analyze modalities": "analyze modalities {dir}/unpaired/encoder --regions {dir}/regions"
    " --text {dir}/world/captions.tsv --things 3 --each 4 --out {dir}/modalities",
    "analyze attention": "analyze attention 'the red box is large .' --encoder {dir}/associative/encoder"
    " --out {dir}/attention",
    "analyze gain": "analyze gain control={dir}/scores {dir}/scores --data world={dir}/world/tasks/color"
    " --types {dir}/corpora/grounded-types.tsv --out {dir}/gain",
    "report": "report {dir}/regression {dir}/lm {dir}/scores {dir}/vokenizer --sentence 'a red box'"
    " --out {dir}/report.html",
    "card": "card {dir}/regression --scores {dir}/scores --out {dir}/card.md",
    "push": "push {dir}/vokenizer --to user/vokenizer --check",
    "show": "show 'the red box is large .' --vokenizer {dir}/vokenizer --k 3 --out {dir}/strip",
}  # fmt: skip


def sightread(command, **folders):
    """Run a command in this process; arguments are split at spaces, but for what is in quotes."""
    words = [quoted or bare for quoted, bare in re.findall(r"'([^']*)'|(\S+)", command)]
    return CliRunner().invoke(app, [word.format(**folders) for word in words])


@pytest.fixture(scope="module")
def folders(text_encoder_folder, image_encoder_folder, tmp_path_factory):
    clip_tokenizer = build_tokenizer("clip")
    folder = tmp_path_factory.mktemp("cli")
    build_word_tokenizer(["a b c d e f g h i j k l m n o p q r s t u v w x y z ."]).save_pretrained(folder / "letters")
    config = json.loads((text_encoder_folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    save(folder / "clip", build_model("clip", clip_tokenizer), clip_tokenizer)
    encoders = {"text_encoder": text_encoder_folder, "image_encoder": image_encoder_folder}
    return {"dir": folder, "clip": folder / "clip", **encoders}


@pytest.fixture(scope="module")
def results(folders):
    """What each command said, run one after the other."""
    said = {}
    for name, command in COMMANDS.items():
        result = sightread(command, **folders)
        assert result.exit_code == 0, f"{name}: {result.output}"
        said[name] = result.stdout
    return said


@pytest.fixture
def out(folders, results):
    """The folder that all commands wrote into."""
    return folders["dir"]


def report(folder):
    return json.loads((folder / MANIFEST).read_text())["report"]


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = sightread(f"{verb} --help")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    if verb:
        assert f"Example: sightread {verb} " in shown
        for parameter in VERBS[verb].params:
            assert (parameter.metavar or parameter.opts[0].removeprefix("sentence")) in shown
            if isinstance(parameter.default, int | float | str) and not isinstance(parameter.default, bool):
                assert f"[default: {parameter.default}]" in shown
    else:
        assert all(name.split()[0] in shown for name in VERBS)


def test_help_loads_nothing_heavy():
    code = "import sys; from sightread.cli import app; app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    for arguments in ([], ["match"]):
        command = [sys.executable, "-c", code, *arguments, "--help"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Usage" in result.stdout
        modules = result.stdout.splitlines()[-1].split()
        assert "sightread.cli" in modules
        assert not {"torch", "transformers", "datasets", "numpy"} & set(modules)


def test_no_verb_shows_the_help():
    result = sightread("")
    assert "world" in result.output
    assert "Usage" in result.output


def test_a_world_is_ordinary_files(out, results):
    assert results["world"].strip() == f"16 pictures, 40 lines, 96 nouns in {out / 'world'}"
    assert len(list((out / "world" / "images").glob("*.png"))) == 16
    assert len((out / "world" / "corpus.txt").read_text().splitlines()) == 40
    tasks = {path.relative_to(out / "world" / "tasks").as_posix() for path in (out / "world").glob("tasks/*/*.tsv")}
    names = ("color", "shape", "size", "pattern", "agreement", "word_order")
    assert tasks == {f"{name}/{split}.tsv" for name in names for split in ("train", "dev", "test")}


def test_a_bank_holds_what_was_asked_for(out, results):
    assert results["bank"].strip() == f"6 pictures in {out / 'bank'}"
    pictures = [json.loads(line) for line in (out / "bank" / "pictures.jsonl").read_text().splitlines()]
    assert len({picture["id"] for picture in pictures}) == 6
    assert all(Image.open(picture["path"]).size == (32, 32) for picture in pictures)


def test_a_vokenizer_is_whole(out, results):
    assert results["match"].strip() == f"vokenizer with 16 pictures in {out / 'vokenizer'}"
    assert report(out / "vokenizer")["captions"] == 32
    for part in ("heads.safetensors", "bank/manifest.json", "text_encoder/tokenizer.json", "image_encoder/config.json"):
        assert (out / "vokenizer" / part).is_file(), part


def test_retrieval_prints_what_it_writes(out, results):
    scores = json.loads((out / "scores.json").read_text())
    assert set(scores) == {"tokens", "sentences", "chance", "pictures", "skipped"}
    header, *rows = results["retrieval"].splitlines()
    assert header.split() == ["among", "16", "pictures", "R@1", "R@5", "R@10", "median"]
    assert [row.split()[0] for row in rows] == ["tokens", "sentences", "chance"]
    for name, *numbers in map(str.split, rows):
        expected = [100 * scores[name][f"R@{k}"] for k in (1, 5, 10)]
        assert [float(number) for number in numbers[:3]] == pytest.approx(expected, abs=0.051)
        assert float(numbers[3]) == pytest.approx(scores[name]["median_rank"], abs=0.51)


def test_every_token_has_a_voken_and_keeps_its_text(out, results):
    text = (out / "world" / "corpus.txt").read_text().splitlines()
    for name in ("vokens", "vokens-letters"):
        corpus = VokenCorpus(out / name)
        assert [line.text for line in corpus] == text
        assert corpus.num_vokens == 16
        assert corpus.num_tokens == sum(len(line.token_ids) for line in corpus)
    whole, letters = VokenCorpus(out / "vokens"), VokenCorpus(out / "vokens-letters")
    assert letters.num_tokens > 2 * whole.num_tokens
    for words, spelled in zip(whole, letters, strict=True):
        voken_of = {
            i: v for s, e, v in zip(words.starts, words.ends, words.voken_ids, strict=True) for i in range(s, e)
        }
        assert [voken_of[start] for start in spelled.starts] == spelled.voken_ids.tolist()
    assert f"{whole.num_tokens:,} tokens in 40 lines" in results["vokenize"]
    assert f"{letters.num_tokens:,} tokens, 0 of them without a voken" in results["revokenize"]


VOKEN_LOSSES = {"loss", "voken_loss", "lm_loss"}
LOSSES = {
    "pretrain lm": {"loss"}, "pretrain classification": VOKEN_LOSSES, "pretrain regression": VOKEN_LOSSES,
    "pretrain soft": VOKEN_LOSSES, "contrast": {"loss", "contrast_loss", "lm_loss", "temperature"},
    "distill": {"loss", "nst_loss", "crd_loss", "lm_loss"},
}  # fmt: skip


@pytest.mark.parametrize("command", LOSSES)
def test_pretraining_tells_its_steps(command, out, results):
    arm = command.split()[-1]
    assert report(out / arm)["steps"] == 3
    assert results[command].startswith("3 steps, ")
    log = [json.loads(line) for line in (out / arm / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == ([2] if arm == "lm" else [1, 2, 3])
    assert LOSSES[command] <= set(log[0])


@pytest.mark.parametrize("command", [*LOSSES, "noise"])
def test_pretraining_writes_an_ordinary_checkpoint(command, out, results, folders):
    path = re.search(r"AutoModel.from_pretrained\('(.*)'\)", results[command])[1]
    model, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    states = model(**tokenizer("a red box", return_tensors="pt")).last_hidden_state
    assert states.shape == (1, 5 if "classification" not in command else 2 + len("aredbox"), 16)
    before = AutoModel.from_pretrained(folders["text_encoder"]).get_input_embeddings().weight
    now = model.get_input_embeddings().weight
    assert now.shape != before.shape or not now.equal(before)  # it learnt


def test_other_vokens_are_of_the_same_tokens(out, results):
    vokens, top, drawn = (VokenCorpus(out / name) for name in ("vokens", "vokens-top", "frequency-vokens"))
    assert (vokens.top, top.top, drawn.num_vokens) == (0, 3, 16)
    for lines in zip(vokens, top, drawn, strict=True):
        assert len({line.token_ids.tobytes() for line in lines}) == 1
        assert lines[0].voken_ids.tolist() == lines[1].voken_ids.tolist()
    assert results["baseline"].startswith(f"{vokens.num_tokens:,} tokens, their vokens by term-frequency among 16, in ")


def test_a_clip_is_a_vokenizer_without_training(out, results):
    assert results["clip"].strip() == f"vokenizer with 6 pictures in {out / 'clip-vokenizer'}"
    (tokens,) = Vokenizer.from_pretrained(out / "clip-vokenizer")(["a red box"])
    assert len(tokens) == len("aredbox")


def test_reported_accuracy_is_that_of_the_predictions(out, results):
    summary, accuracies = report(out / "scores")["summary"], []
    gold = [line.split("\t")[1] for line in (out / "world/tasks/color/test.tsv").read_text().splitlines()[1:]]
    for seed in (0, 1):
        folder = out / "scores" / f"seed-{seed}"
        assert (folder / "predictions-dev.jsonl").is_file()
        rows = [json.loads(line) for line in (folder / "predictions-test.jsonl").read_text().splitlines()]
        assert [row["row"] for row in rows] == list(range(len(gold)))
        accuracies.append(sum(row["prediction"] == label for row, label in zip(rows, gold, strict=True)) / len(gold))
        assert json.loads((folder / "scores.json").read_text())["test_accuracy"] == pytest.approx(accuracies[-1])
    assert summary["test_accuracy"]["scores"] == pytest.approx(accuracies)
    (line,) = (line for line in results["finetune"].splitlines() if line.startswith("test_accuracy"))
    assert f"{sum(accuracies) / 2:.3f} [" in line
    assert "over 2 seeds" in line


def test_texts_that_are_cut_are_told(out, folders, results):
    result = sightread(f"{COMMANDS['finetune'].replace('/scores', '/cut')} --set max_length=8", **folders)
    tokenizer, told = AutoTokenizer.from_pretrained(folders["text_encoder"]), []
    for split in ("train", "dev", "test"):
        lines = (out / f"world/tasks/color/{split}.tsv").read_text().splitlines()[1:]
        lengths = [len(tokenizer.tokenize(line.partition("\t")[0])) for line in lines]
        told.append(f"{sum(length > 6 for length in lengths)} of {split}")
    assert f"texts longer than max_length and cut: {', '.join(told)}\n" in result.stderr
    assert "longer than max_length" not in sightread(f"{COMMANDS['finetune']} --resume", **folders).stderr


def test_show_writes_a_page_and_a_picture(out, results):
    assert results["show"].split() == [f"{out}/strip.html", f"{out}/strip.png"]
    page = (out / "strip.html").read_text()
    assert "the red box is large ." in page
    assert page.count("<img") == 6 * 3
    with Image.open(out / "strip.png") as picture:
        picture.load()
        assert picture.size == (6 * 104 + 8, 164)


def test_analyses_tell_and_draw(out, results):
    assert results["analyze corpora"].splitlines()[0].startswith("| corpus | tokens | sentences |")
    assert "tokens of" in results["analyze vokens"]
    noise = next(line for line in results["analyze weights"].splitlines() if line.startswith("| noise |"))
    assert float(noise.split(" | ")[1]) == pytest.approx(report(out / "noise")["distance"], rel=1e-3)
    assert results["analyze attention"].split() == [f"{out}/attention.svg", f"{out}/attention.pdf"]
    assert "| world | " in results["analyze gain"]
    for kind in ("similarity", "weights", "gain"):
        assert {path.name for path in (out / kind).iterdir()} >= {f"{kind}.{s}" for s in ("md", "json", "svg", "pdf")}
    assert "two, the control's" in sightread("analyze gain a --data b=c --types d --out e").stderr


def test_a_report_is_one_page(out, results):
    assert results["report"].strip() == str((out / "report.html").resolve())
    page = (out / "report.html").read_text()
    assert page.count("<img") == 3
    assert all(told in page for told in ("Learning curves", "voken loss", "Made with sightread", "accuracy, "))


def test_show_puts_associations_side_by_side(out, folders, results):
    command = (
        "show 'the red box is large .' --association words={dir}/association --association again={dir}/association"
    )
    result = sightread(f"{command} --k 2 --out {{dir}}/found", **folders)
    assert result.stdout.split() == [f"{out}/found.html", f"{out}/found.png"], result.output
    assert (out / "found.html").read_text().count("<b>") == 2
    assert sightread("show 'a box' --out {dir}/nothing", **folders).exit_code == 2


def test_the_page_is_checked_before_anybody_asks(folders, results):
    assert re.fullmatch(
        r"tokens \(16 pictures\), clip-vokenizer \(6 pictures\) at http://127\.0\.0\.1:\d+\n", results["serve"]
    )
    again = sightread(
        "serve --vokenizer {dir}/vokenizer --vokenizer x/vokenizer={dir}/vokenizer --port 0 --check", **folders
    )
    assert again.exit_code == 0
    twice = sightread(
        "serve --vokenizer {dir}/vokenizer --vokenizer vokenizer={dir}/vokenizer --port 0 --check", **folders
    )
    assert (twice.exit_code, "name them: --vokenizer name=folder" in twice.stderr) == (2, True)
    other = sightread("serve --vokenizer {dir}/clip-vokenizer --corpus {dir}/vokens --port 0 --check", **folders)
    assert (other.exit_code, "of no vokenizer here" in other.stderr) == (2, True)


def test_a_card_tells_the_scores_and_what_would_go_up_is_said(out, folders, results):
    assert results["card"].strip() == str((out / "card.md").resolve())
    assert "accuracy (mean of 2 seeds" in (out / "card.md").read_text()
    again = sightread(COMMANDS["card"], **folders)
    assert (again.exit_code, "give --overwrite" in again.stderr) == (2, True)
    header, *paths = results["push"].splitlines()
    assert header == f"{len(paths)} files would go to user/vokenizer:"
    assert {"README.md", "heads.safetensors", "text_encoder/tokenizer.json"} <= set(paths)
    assert not [path for path in paths if path.startswith("bank/")]


def test_pictures_come_as_so_many_regions(out, results):
    assert json.loads((out / "joint" / "encoder" / "config.json").read_text())["num_regions"] == 2


def test_sources_say_what_is_read_apart(out, results, folders):
    given = "--start {text_encoder} --regions {dir}/regions --set max_steps=1 --set max_length=48"
    captions, corpus = "--captions {dir}/world/captions.tsv", "--corpus {dir}/vokens"
    for name, (sources, read) in {
        "apart": (captions, {"texts", "pictures"}), "other": (f"{captions} {corpus}", {"texts", "pictures"}),
        "pictures": ("", {"pictures"}), "pairs": (f"{captions} --pairs", {"pairs"}),
    }.items():  # fmt: skip
        assert sightread(f"unpaired {given} {sources} --out {{dir}}/unpaired-{name}", **folders).exit_code == 0
        inputs = json.loads((out / f"unpaired-{name}" / MANIFEST).read_text())["inputs"]
        assert set(inputs) & {"texts", "pairs", "pictures"} == read
    (out / "one.txt").write_text("scene-00002.png\n")
    for name, sources in {"alone": corpus, "all": f"{captions} --all-pictures"}.items():
        command = f"unpaired {given} {sources} --only {{dir}}/one.txt --out {{dir}}/unpaired-only-{name}"
        assert sightread(command, **folders).exit_code == 0
        inputs = json.loads((out / f"unpaired-only-{name}" / MANIFEST).read_text())["inputs"]
        assert inputs["pictures"] == digest("scene-00002.png")
    nothing = sightread(f"unpaired {given} --pairs --out {{dir}}/nothing", **folders)
    assert (nothing.exit_code, "give --captions" in nothing.output) == (2, True)


def test_regions_are_those_of_the_boxes(out, results):
    things = [json.loads(line)["objects"] for line in (out / "world" / "regions.jsonl").read_text().splitlines()]
    assert results["regions"].strip() == f"16 pictures with 1.0 regions each, 0 without, in {out / 'regions'}"
    store = RegionStore(out / "regions")
    assert [list(regions.tags) for regions in store] == [[first["tag"]] for first, *_ in things]
    assert store.width == 12


@pytest.mark.parametrize("options", [
    "", "--images x", "--features x --images x", "--images x --detector x --names x", "--features x --pooling crop",
])  # fmt: skip
def test_regions_come_from_one_place(options, tmp_path):
    result = sightread(f"regions {options} --out {tmp_path / 'regions'}")
    assert result.exit_code == 2
    assert "found in --images by a --detector, or come from --features" in result.stderr


def test_what_an_association_lacks_or_cannot_use_is_said_before_its_folder_is_begun(out, folders, results):
    given = "--bank {dir}/bank --captions {dir}/world --out {dir}/other"
    for kind, said in (
        ("scene", "an association by scene is made of bank, captions, words; words not given"),
        ("random", "an association by random has no use for --captions; leave it out"),
        ("keyword --synsets s.tsv --text-encoder t", "by keyword has no use for --synsets, --text-encoder"),
        ("object --definitions d.tsv --words {dir}/words.txt", "by object has no use for --definitions"),
    ):
        result = sightread(f"associate --kind {kind} {given}", **folders)
        assert result.exit_code == 2
        assert said in result.stderr
        assert not (out / "other").exists()


ANALYSES = [name for name in COMMANDS if name.startswith("analyze ") and name != "analyze attention"]
MADE_AT_ONCE = ["world", "bank", "clip", "associate", "passages", *ANALYSES]
NO_FOLDER = ["retrieval", "analyze attention", "report", "card", "push", "serve", "show"]
RESUMABLE = [name for name in COMMANDS if name not in {*MADE_AT_ONCE, *NO_FOLDER}]


@pytest.mark.parametrize("name", [*RESUMABLE, *MADE_AT_ONCE])
def test_a_second_run_is_refused(name, out, folders):
    folder = out / re.search(r"--out {dir}/(\S+)", COMMANDS[name])[1]
    before = (folder / MANIFEST).read_bytes()
    result = sightread(COMMANDS[name], **folders)
    assert result.exit_code == 2
    assert re.fullmatch(rf"sightread: {folder} already holds a finished [\w-]+; .*", result.stderr.splitlines()[-1])
    assert "Traceback" not in result.stderr
    assert (folder / MANIFEST).read_bytes() == before


@pytest.mark.parametrize("name", RESUMABLE)
def test_a_finished_run_is_resumed_at_once(name, out, folders, results):
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    result = sightread(f"{COMMANDS[name]} --resume", **folders)
    assert result.exit_code == 0, result.output
    assert result.stdout == results[name]
    written = {path for path in out.rglob("*") if path.is_file() and path.stat().st_mtime_ns != files.get(path)}
    assert written <= {out / "scores" / MANIFEST}


def test_what_is_read_is_not_overwritten(out, folders, results, tmp_path):
    shutil.copytree(out / "vokens", tmp_path / "vokens")
    (tmp_path / "vokens" / "mine.txt").write_text("the red box")
    for command in (
        "revokenize --vokens {there} --tokenizer {text_encoder} --out {there}",
        "vokenize --corpus {there}/mine.txt --vokenizer {dir}/vokenizer --out {there}",
        "analyze vokens some={there} --out {there}",
    ):
        result = sightread(f"{command} --overwrite", **folders, there=tmp_path / "vokens")
        assert result.exit_code == 2
        assert re.search(r"--overwrite would delete .*, which is to be read; choose another --out", result.stderr)
    assert (tmp_path / "vokens" / "mine.txt").exists()


def test_overwriting_replaces_the_result(folders, tmp_path):
    command = "bank --images {dir}/world/images --image-encoder {image_encoder} --out {there} "
    assert sightread(command + "--size 3", **folders, there=tmp_path / "bank").exit_code == 0
    assert sightread(command + "--size 4 --overwrite", **folders, there=tmp_path / "bank").exit_code == 0
    assert report(tmp_path / "bank")["pictures"] == 4


@pytest.mark.parametrize(("worth", "steps"), [(0, 1), (2, 2)])
def test_equal_compute_is_counted_in_steps(worth, steps, out, results, folders, tmp_path):
    """Another run cost what so many of the three steps of this one do: so many it takes, but one at least."""
    manifest = json.loads((out / "regression" / MANIFEST).read_text())
    manifest["report"]["flops"] *= worth / 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MANIFEST).write_text(json.dumps(manifest))
    command = COMMANDS["pretrain regression"].replace("{dir}/regression", "{there} --match-compute-of {other}")
    result = sightread(command, **folders, there=tmp_path / "matched", other=tmp_path / "other")
    assert result.exit_code == 0, result.output
    log = (tmp_path / "matched" / "log.jsonl").read_text().splitlines()
    assert [json.loads(entry)["step"] for entry in log] == list(range(1, steps + 1))


def test_only_takes_a_split(out, folders, tmp_path):
    (tmp_path / "split.txt").write_text("scene-00003.png\nscene-00001.png\n\nscene-00007.png\n")
    command = "retrieval --vokenizer {dir}/vokenizer --captions {dir}/world --only {split} --json {json}"
    result = sightread(command, **folders, split=tmp_path / "split.txt", json=tmp_path / "scores.json")
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["pictures"], scores["sentences"]["queries"]) == (3, 6)
