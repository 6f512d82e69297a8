"""The verbs `embed`, `aware` and `locate`, one after the other, on the tiny world."""

import json

import pytest
from typer.testing import CliRunner

from sightread.association.folder import load_association
from sightread.cli import app
from sightread.data.words import words_of
from sightread.grounded import load_encoder
from sightread.runtime import keyed_rng


@pytest.fixture(scope="module")
def folders(world_folder, captions, text_encoder_folder, image_encoder_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("awareness")
    words = sorted({word for text in captions.texts for word in words_of(text)})
    vectors = keyed_rng(0).standard_normal((len(words), 4)).round(3)
    lines = [" ".join([word, *map(str, vector)]) for word, vector in zip(words, vectors, strict=True)]
    (folder / "words.txt").write_text("\n".join(lines) + "\n")
    (folder / "test.txt").write_text("\n".join(captions.pictures.ids[:6]) + "\n")
    boxes = [
        {"file": path, "width": 32, "height": 32, "objects": [{"tag": word, "box": [0, 0, 16, 16]}]}
        for path, word in zip(captions.pictures.ids[:3], [words[0], words[1], "xyzzy"], strict=True)
    ]
    (folder / "boxes.jsonl").write_text("\n".join(map(json.dumps, boxes)) + "\n")
    return {
        "dir": folder, "world": world_folder, "text": text_encoder_folder, "image": image_encoder_folder,
        "word": words[0], "picture": captions.pictures.path(0), "images": captions.pictures.path(0).parent,
    }  # fmt: skip


def sightread(command, **folders):
    return CliRunner().invoke(app, [word.format(**folders) for word in command.split()])


EMBED = "embed --captions {world} --held-out {dir}/test.txt --words {dir}/words.txt --image-encoder {image}" \
    " --set extremes=2 --set width=8 --set max_steps=2 --out {dir}/embedding"  # fmt: skip
AWARE = (
    "aware --start {text} --association {dir}/embedding/association --set num_images=2 --set heads=2 --out {dir}/aware"
)


def test_from_captions_to_an_encoder_and_to_heat(folders):
    result = sightread(EMBED, **folders)
    assert result.exit_code == 0, result.output
    assert "6 held-out pictures are not learnt from" in result.stderr
    header, texts, pictures, chance, last = result.stdout.splitlines()
    assert header.split() == ["seek", "R@1", "R@5", "R@10", "median"]
    assert [line.split()[0] for line in (texts, pictures, chance)] == ["texts", "pictures", "chance"]
    assert last == f"pictures by semantic-visual, of a bank of 18, in {folders['dir']}/embedding/association"
    assert sightread(f"{EMBED} --resume", **folders).stdout == result.stdout

    result = sightread(AWARE, **folders)
    assert result.exit_code == 0, result.output
    encoder = load_encoder(folders["dir"] / "aware" / "encoder")
    association = load_association(folders["dir"] / "embedding" / "association")
    assert encoder.finder.association.digest == association.digest

    locate = "locate --association {dir}/embedding/association "
    result = sightread(locate + "{word} --image {picture} --out {dir}/heat", **folders)
    assert result.stdout.split() == [f"{folders['dir']}/heat-1.png"], result.output
    result = sightread(locate + "--boxes {dir}/boxes.jsonl --images {images}", **folders)
    assert result.exit_code == 0, result.output
    assert "% of 2 names in 2 pictures; the centre 100.0 %" in result.stdout
    assert "skipped 1: name of unknown words" in result.stderr


@pytest.mark.parametrize(("command", "message"), [
    ("embed --captions {world} --image-encoder {image} --out {dir}/no", "give --words or --text-encoder"),
    ("locate --association {dir} dog", "give words and --image"),
    (EMBED.replace("extremes=2", "extremes=99").replace("/embedding", "/no"), "extremes=99: expected between 1 and"),
    (AWARE.replace("num_images=2", "num_images=25").replace("/aware", "/no"), "k=25: expected between 1 and the 18"),
    ("locate --association {dir}/embedding/association xyzzy --image {picture}", "'xyzzy' holds no word"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(command, message, folders):
    result = sightread(command, **folders)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not (folders["dir"] / "no").exists()
