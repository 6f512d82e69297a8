"""The page about any runs: everything that lies there is told, and what cannot be told is no error."""

import json
import re
import shutil

import pytest

from pages import Page
from scores_folders import write_all, write_scores
from sightread.artifacts import MANIFEST, Artifact, digest
from sightread.compare import Column, Comparison, compare_runs
from sightread.errors import ArtifactError, DataError
from sightread.origin import commit, made_with
from sightread.pages.found import find_runs
from sightread.pages.page import write_page
from sightread.pages.scored import follow
from sightread.pages.settings import what_was_run
from sightread.templates.curves import HEIGHT, WIDTH, Curve, curves

HOSTILE = "<i>R&D</i>"


def write_run(folder, losses=(), *, kind="encoder", finished=True, config=None, **report):
    artifact = Artifact.begin(
        folder, kind, config=config, inputs={"corpus": "c" * 64, "start": digest(folder.name), "index": "exact"}
    )
    lines = [json.dumps({"loss": loss, "lm_loss": loss / 2, "step": 10 * i}) for i, loss in enumerate(losses, start=1)]
    (folder / "log.jsonl").write_text("\n".join(lines))
    if finished:
        artifact.finish({"steps": 10 * len(losses), "seconds": 90.0, "skipped": {}} | report)
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two trainings, one of them broken, an unfinished one, and a vokenizer with a part that is no run."""
    shared = {"seed": 0, "training": {"max_steps": 30, "learning_rate": 1e-4}}
    skipped = {"skipped": {"not UTF-8": {"count": 1234, "first": [f"{HOSTILE}.txt:7", "b.txt:9"]}}}
    write_run(tmp_path / "text-only", (3.0, 2.0, 1.0), config=shared | {"objective": "lm"}, **skipped)
    write_run(tmp_path / HOSTILE.replace("/", ""), (4.0, float("nan"), 2.5), config=shared | {"weight": 1.0})
    write_run(tmp_path / "late", (2.0,), finished=False, config=shared)
    write_run(tmp_path / "vokens", kind="voken-statistics")
    write_run(tmp_path / "vokens" / "bank", kind="bank")
    return tmp_path


def test_runs_are_found_and_no_parts_of_runs(runs):
    found = {run.place: run for run in find_runs([str(runs), f"again={runs / 'text-only'}"])}
    names = {f"{runs.name}/{path.name}" for path in runs.iterdir()}
    assert set(found) == {*names, "again"}
    assert found["again"].name == "again"
    assert not found[f"{runs.name}/late"].artifact.finished
    assert found["again"].curves == {
        "loss": [(10, 3.0), (20, 2.0), (30, 1.0)],
        "lm_loss": [(10, 1.5), (20, 1.0), (30, 0.5)],
    }
    broken = found[f"{runs.name}/{HOSTILE.replace('/', '')}"]
    assert broken.curves["loss"] == [(10, 4.0), (30, 2.5)]
    assert broken.faults == ["a loss was not finite, first at step 20"]
    (runs / "log.txt").write_text("")
    (runs / "empty").mkdir()
    for place in (runs / "empty", runs / "nowhere"):
        with pytest.raises(ArtifactError, match="holds nothing of ours"):
            find_runs([str(place)])


def test_settings_stand_once_where_they_are_shared(runs):
    found = what_was_run(find_runs([str(runs)]))
    encoders = found["kinds"]["encoder"]
    assert encoders["shared"] == {"": {"seed": "0"}, "training": {"max_steps": "30", "learning_rate": "0.0001"}}
    rows = {row["names"][0]: row for row in encoders["rows"]}
    assert rows["text-only"]["own"] == {"objective": "lm"}
    assert (rows["text-only"]["minutes"], rows["text-only"]["steps"], rows["text-only"]["loss"]) == (
        "1.5",
        "30",
        "1.000",
    )
    assert rows["text-only"]["inputs"] == {"corpus": "c" * 12, "start": digest("text-only")[:12], "index": "exact"}
    assert rows["late"]["own"] == {}
    assert found["of_unknown_origin"] == 1
    assert made_with()["python"] in found["origins"][0]


def test_runs_that_differ_in_their_names_alone_are_one_row(tmp_path):
    for seed in range(5):
        for name in ("colour", "shape"):
            artifact = Artifact.begin(tmp_path / str(seed) / name, "probe", inputs={"data": f"{seed}" * 64})
            artifact.finish({"seconds": 60})
    (row,) = what_was_run(find_runs([str(tmp_path)]))["kinds"]["probe"]["rows"]
    assert (row["names"], row["count"], row["minutes"]) == (["colour", "shape"], 5, "5.0")
    assert row["inputs"] == {"data": f"{'0' * 12}, {'1' * 12}, {'2' * 12} and 2 more"}


def test_curves_go_through_their_points():
    drawn = curves(
        [Curve(0, [(10, 3.0), (20, 1.0)]), Curve(7, [(0, 2.0), (40, 4.0)]), Curve(1, [(5, 2.0)]), Curve(2, [])]
    )
    first, second, third = drawn["lines"]
    assert (first["dashed"], second["dashed"], second["color"], third["dot"] is None) == (False, True, 2, False)
    pixels = [tuple(map(float, pair.split(","))) for line in (first, second) for pair in line["points"].split()]
    values = [(10, 3.0), (20, 1.0), (0, 2.0), (40, 4.0)]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in pixels)
    for (x, y), (step, loss) in zip(pixels, values, strict=True):  # each place by those of two others
        assert x == pytest.approx(pixels[2][0] + (pixels[3][0] - pixels[2][0]) * step / 40, abs=0.11)
        assert y == pytest.approx(pixels[1][1] + (pixels[3][1] - pixels[1][1]) * (loss - 1) / 3, abs=0.11)
    assert [tick["label"] for tick in drawn["x_ticks"]] == ["0", "10", "20", "30", "40"]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("scores"), num_rows=40, seeds=range(2))


def _quick(found, controls):
    return compare_runs(found, controls=controls, num=50)


def test_a_page_tells_all(runs, scores, tmp_path, monkeypatch):
    monkeypatch.setattr("sightread.pages.page.compare_runs", _quick)
    text = write_page([str(runs), *map(str, scores)], tmp_path / "page.html", title=HOSTILE).read_text()
    page = Page(text)
    said = " ".join(page.texts)
    assert HOSTILE in page.texts
    assert "<i>" not in text
    for told in ("Learning curves", "grounded: of 3 tasks clearly", "encoder: lm loss", "not finished", "1,234"):
        assert told in said, told
    assert f"{HOSTILE}.txt:7" in page.texts
    assert "a loss was not finite, first at step 20" in said
    assert "seed 3: the training loss was not finite" in said
    assert not [value for name, value in page.attributes if name in {"src", "href"} and not value.startswith("data:")]
    assert not re.search(r"https?://|@import|url\(", text)
    assert "None" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_a_comparison_brings_the_scores_it_was_made_of(scores, tmp_path, monkeypatch):
    monkeypatch.setattr("sightread.pages.page.compare_runs", _quick)
    runs = [f"old={scores[0]}", str(scores[1]), str(tmp_path / "gone")]
    Artifact.begin(tmp_path / "comparison", "comparison", config={"runs": runs}).finish({"verdicts": [], "notes": []})
    text = write_page([str(tmp_path / "comparison")], tmp_path / "page.html").read_text()
    assert "gone, which is not there now" in text
    assert "of 3 tasks clearly better than old" in text
    assert "made of (digests)" in text.partition("<h3>scores</h3>")[2]


def test_scores_bring_the_training_of_their_encoder(tmp_path):
    encoder, answers = write_run(tmp_path / "runs" / "grounded", (3.0, 2.0)) / "encoder", {0: [("a", "a"), ("b", "a")]}
    scores = write_scores(
        tmp_path / "scores", task="sst2", metric="classification", encoder=str(encoder), answers=answers
    )
    found = follow([f"seen={scores}"])
    assert [(run.kind, run.name) for run in found.runs] == [("scores", "seen"), ("encoder", "seen")]
    assert found.runs[1].curves
    assert len(follow([f"seen={scores}", str(encoder.parent)]).runs) == 2


def test_a_recipes_arms_keep_their_order_names_and_controls(scores, tmp_path):
    out = Artifact.begin(tmp_path / "out", "comparison")
    shutil.copytree(scores[0].parent, out.path / "scores")
    told = {"scores": [f"{arm}!=scores/{arm}" for arm in ("text-only", "random", "grounded")],
            "controls": {"grounded!": "random!"}}  # fmt: skip
    out.finish(told)
    found = follow([str(out.path)])
    assert list(dict.fromkeys(run.arm for run in found.scores)) == ["text-only!", "random!", "grounded!"]
    assert found.controls == {"grounded!": "random!"}
    assert len(found.runs) == 1 + 9


def test_results_of_worlds_are_read_back(tmp_path):
    scores = {"text-only": {"color": [0.2, 0.3]}, "grounded": {"color": [0.7, 0.8]}}
    comparison = Comparison([Column("color", 0.25)], [0, 1], scores, diverged={"grounded": ["color in world 1"]})
    assert Comparison.from_json(comparison.to_json()) == comparison
    with pytest.raises(DataError, match="no results of a comparison"):
        Comparison.from_json('{"arms": {}}')
    Artifact.begin(tmp_path / "demo", "comparison", config={"seeds": [0, 1]}).finish({"verdict": "It is grounded."})
    (tmp_path / "demo" / "results.json").write_text(comparison.to_json())
    write_run(tmp_path / "demo" / "seed-0" / "text-only", (3.0, 2.0))
    said = " ".join(Page(write_page([str(tmp_path / "demo")], tmp_path / "page.html").read_text()).texts)
    for told in ("It is grounded.", "grounded − text-only", "diverged: color in world 1", "encoder: loss"):
        assert told in said, told


def test_a_vokenizer_shows_what_it_sees(vokenizer_folder, voken_corpus_folder, tmp_path):
    page = Page(write_page([str(vokenizer_folder), str(voken_corpus_folder)], tmp_path / "page.html").read_text())
    pictures = [value for name, value in page.attributes if name == "src"]
    assert len(pictures) > 8
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in pictures)
    given = Page(write_page([str(vokenizer_folder)], tmp_path / "page.html", sentences=["a red box"]).read_text())
    assert [value for name, value in given.attributes if name == "alt"] == [
        f"picture of {w}" for w in ("a", "red", "box")
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_the_commit_is_that_of_the_checkout(tmp_path, packed):
    git = tmp_path / "checkout" / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    place, line = (
        (git / "packed-refs", "# pack-refs\nabc123 refs/heads/main\n")
        if packed
        else (git / "refs/heads/main", "abc123\n")
    )
    place.write_text(line)
    assert commit(tmp_path / "checkout") == "abc123"
    commit.cache_clear()
    (git / "HEAD").write_text("def456\n")
    assert commit(tmp_path / "checkout") == "def456"
    assert commit(tmp_path) == ""


def test_manifests_say_what_made_them(tmp_path):
    Artifact.begin(tmp_path / "a", "bank").finish()
    assert json.loads((tmp_path / "a" / MANIFEST).read_text())["made_with"] == made_with()
    assert Artifact.at(tmp_path / "a").made_with == made_with()
