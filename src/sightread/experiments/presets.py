"""How each paper fine-tunes, and a laptop, by name: `sightread finetune --preset vokenization …`

Vokenization's settings are those of the script in its code. Of the other papers only what the table says is taken, and
the rest is BERT's own (Devlin et al. 2019, appendix A.3). Where a paper reports a single run, five are made here, since
at a learning rate of 1e-4 some runs diverge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sightread.finetuning import FinetuningConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A paper's way of fine-tuning.

    Attributes:
        config: The settings.
        seeds: How many runs.
        seeds_of: How many for some tasks.
    """

    config: FinetuningConfig
    seeds: int = 5
    seeds_of: Mapping[str, int] = field(default_factory=dict)

    def settings(self, task: str) -> FinetuningConfig:
        """The settings of a task: paragraphs are read in windows of 384 tokens, as is usual."""
        return replace(self.config, max_length=384) if task.startswith("squad") else self.config

    def runs(self, task: str) -> range:
        """The seeds of a task."""
        return range(self.seeds_of.get(task, self.seeds))


def _config(learning_rate: float, *, epochs: int = 3, batch_size: int = 32, max_length: int = 128) -> FinetuningConfig:
    defaults = FinetuningConfig()
    return FinetuningConfig(
        max_length=max_length,
        training={**defaults.training, "learning_rate": learning_rate, "num_train_epochs": epochs,
                  "per_device_train_batch_size": batch_size},
    )  # fmt: skip


PRESETS = {
    "bert": Preset(config=_config(2e-5)),
    "vokenization": Preset(config=_config(1e-4, max_length=126)),  # Tan & Bansal 2020: the script of their code
    "grounding-strategies": Preset(config=_config(2e-5), seeds=8),  # Sileo 2021: the median of eight runs
    "xdbert": Preset(config=_config(2e-5), seeds_of={"rte": 9}),  # Hsu et al. 2022
    "visual-awareness": Preset(config=_config(2e-5, epochs=5)),  # Zhang et al.: 8e-6 to 3e-5, two to five epochs
    "few-rows": Preset(config=_config(1e-4, batch_size=16)),  # no paper's; of 500 rows MiniLM learnt nothing at 2e-5
}
"""Settings by the name of the system, and those for some hundred rows."""
