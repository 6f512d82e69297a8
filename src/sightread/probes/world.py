"""What a linear classifier reads off a frozen encoder of the controlled world, which lies in the folder `world`.

Of the looks it is asked about other nouns than it was taught; agreement and word order need no vision. Encoders that
were not pre-trained in that world do not know its nouns, so this probe is for those that were.
"""

from __future__ import annotations

from pathlib import Path

from sightread.probes.encoder import ProbedEncoder
from sightread.probes.files import records
from sightread.probes.results import ProbeConfig, ProbeResult, mean_interval

WORLD_TASKS = ("color", "shape", "size", "pattern", "agreement", "word_order")


def probe_world(encoder: ProbedEncoder, data: Path, config: ProbeConfig, *, name: str) -> list[ProbeResult]:
    """Accuracy of logistic regression on mean-pooled vectors; sentences about one noun are resampled together.

    The reference says what is most frequent among the sentences that were taught.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = (records(data, f"world/tasks/{name}/{split}.tsv") for split in ("train", "test"))
    labels = [row["label"] for _, row in train]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(encoder.embed([row["sentence"] for _, row in train]), labels)
    guesses = probe.predict(encoder.embed([row["sentence"] for _, row in test]))
    answers = [
        {"item": row["sentence"], "answer": guess, "gold": row["label"], "value": float(guess == row["label"])}
        for (_, row), guess in zip(test, guesses.tolist(), strict=True)
    ]
    hits = [answer["value"] for answer in answers]
    low, high = mean_interval(hits, [row["noun"] or row["sentence"] for _, row in test], config)
    most = max(set(labels), key=labels.count)
    return [
        ProbeResult(
            probe=f"world_{name}", encoder=encoder.label, score="accuracy", value=sum(hits) / len(hits), low=low,
            high=high, chance=1 / len(set(labels)), items=len(hits), answers=answers,
            references={"majority": sum(row["label"] == most for _, row in test) / len(test)},
        )
    ]  # fmt: skip
