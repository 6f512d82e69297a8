"""Vokenize a text, with nothing but Python: learn from captioned pictures which of them each token is about.

    python examples/vokenize_a_text.py /tmp/vokenize-a-text

All is small and made here: a controlled world of 800 pictures, an encoder that has read its text, a little image
encoder. With your own pictures `read_captions` reads them, and the two encoders come from the Hugging Face Hub:
`TextEncoder.from_pretrained("bert-base-uncased")`, `ImageEncoder.from_pretrained("microsoft/resnet-50")`.
"""

import json
import sys
from pathlib import Path

import sightread
from sightread.data.world import WorldConfig, write_world
from sightread.encoders.text import build_word_tokenizer
from sightread.methods import image_words, lm, matching
from sightread.pretraining import PretrainingConfig
from sightread.runtime import quiet_progress
from sightread.vokenization.job import tokenize

WORLD = WorldConfig(num_scenes=800, num_sentences=4000, sentences_per_noun=4, image_size=32)
PRETRAINING = PretrainingConfig(  # a line a block; settings of the Trainer go by its own names
    max_length=32, packed=False,
    training={"num_train_epochs": 2, "per_device_train_batch_size": 32, "learning_rate": 2e-3},
)  # fmt: skip
LAYERS = (0, -1)  # of the text encoder, that tokens look for pictures with


def encoders(folder: Path) -> tuple[sightread.TextEncoder, sightread.ImageEncoder]:
    """A world, an encoder that has read its text, and one that names what its pictures show."""
    write_world(WORLD, folder / "world", resume=True)
    text, captions = sightread.Corpus(folder / "world" / "corpus.txt"), sightread.read_captions(folder / "world")
    tokens = tokenize(text, build_word_tokenizer([*text, *captions.texts]), folder / "tokens", resume=True)
    shape = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 128, "max_position_embeddings": 64}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(shape))
    lm.train(PRETRAINING, tokens, folder / "text-only", start=folder / "config.json", resume=True)
    words = {"num_train_epochs": 6, "per_device_train_batch_size": 16, "learning_rate": 4e-3}
    image_words.train(image_words.ImageWordsConfig(training=words), captions, folder / "image-encoder", resume=True)
    return (
        sightread.TextEncoder.from_pretrained(folder / "text-only" / "encoder", LAYERS),
        sightread.ImageEncoder.from_pretrained(folder / "image-encoder" / "encoder"),
    )


def vokenizer_of(folder: Path) -> sightread.Vokenizer:
    """A vokenizer: two heads that carry token states and pictures into one space, and the pictures."""
    config = matching.MatchingConfig(
        layers=LAYERS, width=32, max_length=32, dropout=0.0, input_dropout=0.0,
        training={"num_train_epochs": 8, "per_device_train_batch_size": 32, "learning_rate": 5e-3},
    )  # fmt: skip
    text, images = encoders(folder)
    captions = sightread.read_captions(folder / "world")
    return matching.train(config, captions, folder / "vokenizer", text_encoder=text, image_encoder=images, resume=True)


def main(folder: Path) -> None:
    """Show the picture of each token of a sentence, then vokenize a corpus."""
    quiet_progress()
    vokenizer = vokenizer_of(folder)
    captions = sightread.read_captions(folder / "world")
    said_of = dict(zip(captions.picture_of.tolist(), captions.texts, strict=True))
    noun, *look, _ = (folder / "world" / "nouns.tsv").read_text().splitlines()[1].split("\t")
    print(f"No text says so, but a {noun} is {', '.join(look)}. What its token sees, by what is said of the picture:")
    for token in vokenizer([f"the {noun} is in the garden ."])[0]:
        print(f"{token.piece:<8} {token.scores[0]:.2f}  {said_of[token.rows[0]]}")
    corpus = sightread.Corpus(folder / "world" / "corpus.txt")
    vokens = sightread.vokenize(corpus, vokenizer, folder / "vokens", resume=True)
    print(f"{vokens.num_tokens:,} tokens with their vokens, of {vokens.num_vokens} pictures, in {vokens.path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
