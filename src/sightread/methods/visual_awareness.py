"""Visual awareness: an encoder with pictures at its elbow (Zhang et al. 2020; the pictures of Engilberge et al. 2018).

For every text m pictures are found, best by a semantic-visual embedding (`methods/semantic_visual.py`), but any
association will do, `random` among them, the control. One layer of attention carries their vectors M into the states H
of the text:

    H′ = attention(H, M, M),   Ĥ = LayerNorm(W (H + H′));      gated: H + σ(U [H; H′]) ∘ H′ instead of H + H′.

Nothing is pre-trained: the layer is fresh, W the identity, and learns with whatever task the encoder is given to.
Published code scales each picture feature by its length over all pictures; here each picture is scaled by its own. Run
it with

    sightread aware --start bert-base-uncased --association embedding/association --out aware

`aware/encoder` is then an encoder to every task of text. A translation model that looks at pictures is
`tasks/translation.py` with an association.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sightread.artifacts import Artifact
from sightread.association import Association
from sightread.aware import AwareEncoder, LookConfig
from sightread.encoders.text import hub_names, load_tokenizer, tokenizer_digest, weights_digest
from sightread.grounded import Finder, load_encoder
from sightread.pretraining import KIND
from sightread.runtime import seed_everything


@dataclass(frozen=True, kw_only=True)
class AwarenessConfig(LookConfig):
    """Settings of an aware encoder.

    Attributes:
        seed: Seed of the layer that looks.
    """

    seed: int = 0


def wrap(
    config: AwarenessConfig,
    start: str | Path,
    association: Association,
    out: Path | str,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Put pictures at the elbow of an encoder.

    Args:
        config: Settings.
        start: Folder or Hub name of the encoder.
        association: What finds pictures.
        out: Folder; `encoder/` is the aware encoder, its association within.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished run in `out`.

    Raises:
        ConfigError: If there are fewer pictures than are to be found, or the encoder cannot take them.
    """
    association.retrieve([], config.num_images)  # refuses a wrong number before any work
    text, tokenizer = load_encoder(start), load_tokenizer(start)
    seed_everything(config.seed)
    look = LookConfig(**{name: getattr(config, name) for name in LookConfig.__dataclass_fields__})
    encoder = AwareEncoder.around(text, tokenizer, Finder(association, tokenizer, config.num_images), look)
    inputs = {
        "start": weights_digest(text),
        "tokenizer": tokenizer_digest(tokenizer),
        "association": association.digest,
    }
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if not artifact.finished:
        encoder.save_pretrained(artifact.path / "encoder")
        tokenizer.save_pretrained(artifact.path / "encoder")
        artifact.finish({"pictures": len(association.bank), "base_models": hub_names(text)})
    return artifact.path
