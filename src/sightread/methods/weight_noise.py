"""Weight noise: an encoder as far from where it started as a grounded one, in random directions (Tan & Bansal 2020).

A control of "any change of the weights helps": to each weight tensor w_0 of the start, of which training made w,

    w_0 + ‖w - w_0‖ n / ‖n‖,    n ~ N(0, 1) of the same shape

    sightread noise --start bert-base-uncased --like grounded --out noise
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from sightread.artifacts import MANIFEST, RUN, Artifact
from sightread.encoders.text import hub_names, load_tokenizer, weights_digest
from sightread.errors import ConfigError
from sightread.modules.language_model import LanguageModel
from sightread.pretraining import KIND
from sightread.runtime import keyed_rng, seed_everything


def add_noise(
    start: str | Path,
    like: str | Path,
    out: Path | str,
    *,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Write `start` with noise that carries each of its tensors as far as the same tensor of `like` has gone.

    Args:
        start: Checkpoint that `like` was trained from; a language-model head that it lacks is that of a run with
            this seed.
        like: A finished run of pre-training, or a checkpoint.
        out: Folder of the run.
        seed: Seed of the noise.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished run in `out`.

    Raises:
        ConfigError: If the two are no checkpoints of the same shape.
        ArtifactError: If one of them cannot be loaded, or `out` not be written.
    """
    seed_everything(seed)
    model = LanguageModel.from_pretrained(start)
    gone = LanguageModel.from_pretrained(_checkpoint(like))
    mine, other = dict(model.named_parameters()), dict(gone.named_parameters())  # tied weights are one
    shapes = [{(name, tuple(weight.shape)) for name, weight in weights.items()} for weights in (mine, other)]
    if differ := sorted({name for name, _ in shapes[0] ^ shapes[1]}):
        raise ConfigError(
            f"{like} was not trained from {start}: {len(differ)} tensors are of another shape or missing "
            f"({', '.join(differ[:3])}, …); give the checkpoint that its training started from"
        )
    inputs = {"start": weights_digest(model), "like": weights_digest(gone)}
    artifact = Artifact.begin(out, KIND, config={"seed": seed}, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return artifact.path
    rng, distances = keyed_rng(seed), list[float]()
    with torch.no_grad():
        for name, weight in mine.items():
            noise = torch.from_numpy(rng.standard_normal(tuple(weight.shape)))
            distances.append(float((other[name].double() - weight).norm()))
            weight.add_(distances[-1] / noise.norm() * noise)
    model.save_pretrained(artifact.path / "encoder")
    load_tokenizer(start).save_pretrained(artifact.path / "encoder")
    return artifact.finish({"distance": math.hypot(*distances), "base_models": hub_names(model.encoder)})


def _checkpoint(like: str | Path) -> Path | str:
    if any((Path(like) / name).is_file() for name in (MANIFEST, RUN)):
        return Artifact.open(like, KIND).path / "encoder"
    return like
