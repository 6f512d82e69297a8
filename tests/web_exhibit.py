"""What the page shows in its tests: two vokenizers, captions, one grounded word, a corpus, answers of two encoders."""

import json

from sightread.artifacts import Artifact
from sightread.bank import ImageBank
from sightread.data.voken_corpus import VokenCorpus
from sightread.vokenizer import Vokenizer
from sightread.web.exhibit import Exhibit
from sightread.web.probed import read_answers

ANSWERS = {
    "plain": [("rose", "blue", "red", 0.0), ("sky", "blue", "blue", 1.0), ("snow", "white", "white", 1.0)],
    "grounded": [("rose", "red", "red", 1.0), ("sky", "blue", "blue", 1.0), ("snow", "black", "white", 0.0)],
}


def make_exhibit(folder, vokenizer_folder, captions, voken_corpus_folder):
    """Vokenizers "all" and "fewer", with the first four of its pictures; probes are written into `folder`."""
    for encoder, answers in ANSWERS.items():
        write_probe(folder, encoder, answers)
    bank = ImageBank.load(vokenizer_folder / "bank")
    return Exhibit(
        vokenizers={
            "all": Vokenizer.from_pretrained(vokenizer_folder),
            "fewer": Vokenizer.from_pretrained(vokenizer_folder, bank.select(range(4))),
        },
        captions={captions.pictures.ids[0]: captions.texts[:2]}, is_grounded={"box"}.__contains__,
        corpus=VokenCorpus(voken_corpus_folder), answers=read_answers([str(folder)]),
    )  # fmt: skip


def write_probe(folder, encoder, answers, probe="colours"):
    """A finished probe as `sightread probe` writes it; an answer is item, prediction, gold, perhaps value."""
    names = ("item", "prediction", "gold", "value")
    lines = [{"score": "accuracy"} | dict(zip(names, answer, strict=False)) for answer in answers]
    artifact = Artifact.begin(folder / encoder / probe, "probe")
    (artifact.path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = {"probe": probe, "encoder": encoder, "score": "accuracy", "value": 0.5, "low": 0.25, "high": 0.75}
    skipped = result | {"score": "", "value": None}
    artifact.finish({"results": [result, skipped]})
