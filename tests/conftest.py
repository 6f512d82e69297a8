"""Small things that many tests share, each made once a session: no network, no data, a few seconds in all."""

import functools
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models are slower on more, and sums stay in one order
os.environ.setdefault("SIGHTREAD_DEVICE", "cpu")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
from hypothesis import HealthCheck, settings

from sightread.runtime import data_root, quiet_progress, seed_everything

settings.register_profile(
    "suite",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")

gc.set_threshold(50_000, 20, 100)  # the libraries' imports alone would be gone through a dozen times

LAYERS = (-2, -1)  # hidden layers that the fixtures' vokenizer reads


def pytest_collection_modifyitems(items):
    """Tests of real data skip, and say why, where there is none; the longest files go first, so that processes that
    share the suite end together."""
    items.sort(key=lambda item: "vokenization" not in item.path.parts)
    if data_root() is None:
        for item in items:
            if "realdata" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="SIGHTREAD_DATA names no folder of real data"))


@pytest.fixture(scope="session", autouse=True)
def _verbs_are_read_once():
    """Typer reads the signatures of all verbs for every command that is run, which takes longer than many a command."""
    import typer.testing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory):
    """A controlled world of 96 nouns with 24 captioned pictures of 32 pixels and 80 lines of text."""
    from sightread.data.world import WorldConfig, write_world

    folder = tmp_path_factory.mktemp("world") / "world"
    config = WorldConfig(num_scenes=24, num_sentences=80, sentences_per_noun=2, harm_examples=12, image_size=32)
    write_world(config, folder)
    return folder


@pytest.fixture(scope="session")
def captions(world_folder):
    """The world's 24 pictures with two captions each, as `read_captions` gives them."""
    from sightread.data.captions import read_captions

    return read_captions(world_folder / "captions.tsv")


@pytest.fixture(scope="session")
def tokenizer(world_folder, captions):
    """A lower-casing BERT tokenizer: every word of the world is one token, other words fall into characters."""
    from sightread.data.corpora import Corpus
    from sightread.encoders.text import build_word_tokenizer

    return build_word_tokenizer([*Corpus(world_folder / "corpus.txt"), *captions.texts])


@pytest.fixture(scope="session")
def text_encoder_folder(tokenizer, tmp_path_factory):
    """A random BERT with its MLM head, 2 layers of width 16 and 64 positions, and the word tokenizer."""
    from transformers import BertForMaskedLM

    seed_everything(0)
    folder = tmp_path_factory.mktemp("text_encoder")
    BertForMaskedLM(tiny_bert(len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_bert(vocab_size, dropout=0.1, **settings):
    """A BERT config: 2 layers of width 16, 64 positions, `dropout` everywhere."""
    from transformers import BertConfig

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return BertConfig(vocab_size=vocab_size, max_position_embeddings=64, **sizes | dropouts | settings)


@pytest.fixture(scope="session")
def image_encoder_folder(tmp_path_factory):
    """A random ResNet for pictures of 32 pixels, 12 features wide, with its image processor."""
    from sightread.encoders.image import build_small_image_encoder

    seed_everything(1)
    folder = tmp_path_factory.mktemp("image_encoder")
    build_small_image_encoder(32, (8, 12)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vokenizer_folder(captions, text_encoder_folder, image_encoder_folder, tmp_path_factory):
    """A vokenizer trained for two epochs; its bank is the world's 24 pictures, its joint space 8 wide."""
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder
    from sightread.methods import matching

    folder = tmp_path_factory.mktemp("vokenizer") / "vokenizer"
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-2}
    config = matching.MatchingConfig(layers=LAYERS, hidden=16, width=8, max_length=24, training=training)
    text_encoder = TextEncoder.from_pretrained(text_encoder_folder, LAYERS)
    image_encoder = ImageEncoder.from_pretrained(image_encoder_folder)
    matching.train(config, captions, folder, text_encoder=text_encoder, image_encoder=image_encoder)
    return folder


@pytest.fixture(scope="session")
def voken_corpus_folder(world_folder, vokenizer_folder, tmp_path_factory):
    """The world's text with the vokenizer's pictures, V = 24, in one shard."""
    from sightread.data.corpora import Corpus
    from sightread.vokenization.job import vokenize
    from sightread.vokenizer import Vokenizer

    folder = tmp_path_factory.mktemp("voken_corpus") / "voken_corpus"
    vokenize(Corpus(world_folder / "corpus.txt"), Vokenizer.from_pretrained(vokenizer_folder), folder)
    return folder


@pytest.fixture(scope="session")
def built_tokenizers():
    """Three fast tokenizers trained on a few sentences: "wordpiece" (lower-casing), "byte-level" BPE, "unigram"."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    text = ["The red box is near the garden .", "Anna's café: a naïve façade, 42 cups & 7 lamps!", "ein größeres Haus"]
    byte_level, special = pre_tokenizers.ByteLevel(add_prefix_space=False), ["[UNK]", "[PAD]"]
    parts = {
        "wordpiece": (
            models.WordPiece(unk_token="[UNK]"), normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(),
            trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False),
        ),
        "byte-level": (
            models.BPE(), None, byte_level,
            trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=byte_level.alphabet(),
                                show_progress=False),
        ),
        "unigram": (
            models.Unigram(), normalizers.NFKC(), pre_tokenizers.Metaspace(),
            trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="[UNK]", show_progress=False),
        ),
    }  # fmt: skip
    built = {}
    for name, (model, normalizer, pre_tokenizer, trainer) in parts.items():
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizer
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.train_from_iterator(text, trainer)
        built[name] = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    return built


@pytest.fixture(scope="session")
def kill_when():
    """`kill_when(condition, function, *args)`: run a module's function in a process of its own, kill -9 it once the
    condition holds. It fails if the process ends by itself. The process is forked where that is safe: what is imported
    need not be imported again."""
    import torch

    method = "fork" if sys.platform == "linux" and not torch.cuda.is_available() else "spawn"

    def run(condition, function, *args):
        process = multiprocessing.get_context(method).Process(target=_killable, args=(function, *args))
        process.start()
        try:
            while not condition():
                assert process.is_alive(), "the process ended before it was to be killed"
                time.sleep(0.005)
        finally:
            process.kill()
            process.join()
        assert process.exitcode == -signal.SIGKILL

    return run


def _killable(function, *args):
    import torch
    from tqdm import tqdm

    quiet_progress()
    tqdm.set_lock(threading.RLock())  # its own lock is shared between processes, and would be left behind
    torch.set_num_threads(1)  # those of the parent are not here
    gc.freeze()  # nor is what it holds to be looked at, and copied for that
    function(*args)
