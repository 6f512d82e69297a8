"""A made-up data folder of every probe, and encoders of which it is known what they know."""

import csv
import gzip
import json

import numpy as np
import torch

from sightread.encoders.text import build_word_tokenizer

COLORS = ("black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow")
THINGS = {"frog": "green", "coal": "black", "brick": "red", "flour": "white", "plum": "purple", "straw": "yellow"}


def write_jsonl(path, rows):
    """Rows as JSON lines, packed if the name ends in `.gz`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_lines(path, *lines):
    """Lines of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_probe_data(data):
    """A data folder with six things, each probe's files in their official form; returns it."""
    probes, lexicons = data / "probes", data / "lexicons"
    write_memory_colors(probes)
    write_coda(probes / "coda")
    write_vicomte(probes / "vicomte")
    write_lines(probes / "relative_size_pairs.txt", "plum straw", "brick plum", "frog\tflour", "")
    write_shapes(probes / "isbertblind")
    write_blimp(probes / "blimp_sample.jsonl.gz")
    write_norms(lexicons / "brysbaert_concreteness.tsv")
    write_word_pairs(lexicons / "word-sim")
    return data


def write_memory_colors(folder):
    rows = [
        {"descriptor": "a" * (i % 2), "item": item, "label": color} for i, (item, color) in enumerate(THINGS.items())
    ]
    write_jsonl(folder / "memory_colors.jsonl", rows)


def write_coda(folder):
    objects, annotations = [], []
    for number, (thing, color) in enumerate(THINGS.items()):
        forms = {"object_s": thing, "areis_s": "is", "object_pl": f"{thing}s", "areis_pl": "are"}
        objects.append(
            {"class_id": f"/m/{number}", **(forms if number else forms | {"object_s": None, "areis_s": None})}
        )
        for weight, included in ((3, True), (1, True), (0, False)):
            counts = {name: 1 + weight * (name == color) for name in COLORS}
            annotations.append({"class_id": f"/m/{number}", "included": included, **counts})
    write_jsonl(folder / "objects.jsonl.gz", objects)
    write_jsonl(folder / "annotations.jsonl.gz", annotations)


def write_vicomte(folder):
    values = {"color": ("green", "black", "red", "white"), "shape": ("round", "square"), "material": ("clay", "stone")}
    for relation, known in values.items():
        write_lines(folder / f"words/{relation}-words.txt", *known, f"odd: {known[0]}")
        things = list(THINGS)[: 2 * len(known)]
        right = {thing: known[i % len(known)] for i, thing in enumerate(things)}
        counts = {
            thing: [9 if value == right[thing] else i for i, value in enumerate(sorted(known))] for thing in things
        }
        write_jsonl(folder / f"distributions/{relation}-dist.jsonl.gz", [counts])
        write_jsonl(folder / f"prompts/{relation}.jsonl", [{"template": "[X] is [Y] ."}, {"template": "[Y] [X] ."}])
        write_vicomte_splits(folder, relation, [{"sub": thing, "obj": right[thing], "alt": "?"} for thing in things])
    for relation, verb in {"cooccur": "beside", "size_larger": "larger than", "size_smaller": "smaller than"}.items():
        write_jsonl(folder / f"prompts/{relation}.jsonl", [{"template": f"[X] is {verb} [Y] ."}])
        rows = [{"sub": "frog", "obj": "straw", "alt": "brick"}, {"sub": "plum", "obj": "flour", "alt": "coal"}]
        write_vicomte_splits(folder, relation, rows)


def write_vicomte_splits(folder, relation, rows):
    write_jsonl(folder / f"db/{relation}/train.jsonl.gz", rows)
    write_jsonl(folder / f"db/{relation}/test.jsonl", rows)


def write_shapes(folder):
    for name, prompts, shapes in (
        ("shape_association", "shapes", ["triangle", "circle"]),
        ("shape_association_adj", "shapes_adj", ["triangular", "circular"]),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerow(["word", "gt", "options"])
            writer.writerows([["plum", shapes[1], repr(shapes)], ["sea star", shapes[0], repr(shapes)]])
        write_lines(folder / f"{prompts}.json", json.dumps({"prompts": ["a MASK WORD", "WORDs are MASK"]}))


def write_blimp(path):
    rows = [
        {"sentence_good": f"the {thing} is here", "sentence_bad": f"the {thing} are here", "UID": uid, "field": field}
        for thing in THINGS
        for uid, field in (("agreement", "morphology"), ("binding", "syntax/semantics"))
    ]
    write_jsonl(path, rows)


def write_norms(path, words=None):
    """Concreteness falls, counts rise along the words; the last one is a bigram."""
    words = words or [*THINGS, *COLORS]
    rows = [f"{word}\t0\t{5 - 4 * i / len(words):.2f}\t{10 * i + 1}" for i, word in enumerate(words)]
    write_lines(path, "Word\tBigram\tConc.M\tSUBTLEX", *rows, "ice age\t1\t3.5\t7")


def write_word_pairs(folder):
    names = ("SIMLEX-999", "MEN-TR-3k", "WS-353-SIM", "WS-353-REL", "SimVerb-3500")
    things = [*THINGS, *COLORS]
    for name in names:
        pairs = [f"{a}\t{b} {abs(i - j)}" for i, a in enumerate(things) for j, b in enumerate(things) if i < j]
        write_lines(folder / f"EN-{name}.txt", *pairs, "")


class KnowingLM(torch.nn.Module):
    """States are the bag of words of the sentence, logits what goes with them."""

    def __init__(self, tokenizer, knowledge):
        super().__init__()
        self.goes_with = torch.nn.Parameter(torch.zeros(len(tokenizer), len(tokenizer)))
        for word, other in knowledge.items():
            self.goes_with.data[tokenizer.convert_tokens_to_ids(word), tokenizer.convert_tokens_to_ids(other)] = 5.0

    def forward(self, input_ids, attention_mask):
        bags = torch.nn.functional.one_hot(input_ids, len(self.goes_with)).float() * attention_mask[..., None]
        return bags.sum(dim=1, keepdim=True).expand(bags.shape)

    def logits(self, states):
        return states @ self.goes_with


class PlantedEncoder:
    """An encoder without a head, whose vectors are a function of the text alone."""

    label, masked_lm, headless = "planted", None, "no head"

    def __init__(self, vector_of):
        self.vector_of = vector_of

    def embed(self, texts):
        return np.array([self.vector_of(text) for text in texts], dtype=np.float32)


class KnowingEncoder(PlantedEncoder):
    """An encoder whose masked-LM head knows one thing: which word goes with which other of the sentence.

    Its tokens are the words of the lines, its vectors all the same.
    """

    max_length = 64

    def __init__(self, lines, knowledge):
        super().__init__(lambda text: [1.0])
        self.tokenizer = build_word_tokenizer([*lines, *knowledge, *knowledge.values()])
        self.masked_lm, self.text_encoder = KnowingLM(self.tokenizer, knowledge), self
