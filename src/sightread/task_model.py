"""An encoder with a task's head: what it makes of a batch, and of many examples."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightread.contracts import Batch, Losses, Objective, Task, to_device
from sightread.runtime import default_device, keyed_rng


class FinetuningObjective(Objective):
    """An encoder with a task's head.

    Args:
        encoder: A Hugging Face encoder.
        task: The task.
        pooling: What stands for a sequence: its "first" token, its "last", or the "mean" of all its tokens.
        frozen: Train the head alone.
    """

    def __init__(self, encoder: Any, task: Task, *, pooling: str = "first", frozen: bool = False) -> None:
        super().__init__()
        self.encoder, self.task, self.pooling, self.frozen = encoder, task, pooling, frozen
        self.head = task.head(encoder.config.hidden_size)
        self.knows_types = "token_type_ids" in inspect.signature(encoder.forward).parameters
        encoder.requires_grad_(not self.frozen)

    def train(self, mode: bool = True) -> FinetuningObjective:
        """Training mode; a frozen encoder stays without dropout."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def states(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, **pictures: Tensor) -> Tensor:
        """What the head reads of int64 (B, L) inputs, and of the `pictures` that a `SingleStream` reads beside them:
        states of tokens (B, L, D) or regions (B, R, D), or one vector a sequence (B, D)."""
        types = {"token_type_ids": token_type_ids} if self.knows_types else {}
        outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types, **pictures)
        states: Tensor = outputs.regions if self.task.reads == "regions" else outputs.last_hidden_state
        if self.task.reads in ("tokens", "regions"):
            return states
        if self.pooling == "first":
            return states[:, 0]
        if self.pooling == "last":
            places = torch.arange(states.shape[1], device=states.device) * attention_mask
            return states[torch.arange(len(states)), places.argmax(dim=1)]
        weights = attention_mask[..., None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)

    def outputs(self, **inputs: Tensor) -> Tensor:
        """What the head gives for a batch, which may hold vectors that are already `pooled`."""
        return self.head(inputs["pooled"] if "pooled" in inputs else self.states(**inputs))

    def forward(self, labels: Tensor, **inputs: Tensor) -> Losses:  # type: ignore[override]
        """The task's loss; labels as the task collates them."""
        return {"loss": self.task.loss(self.outputs(**inputs), labels)}


class PooledExamples:
    """Examples of a frozen encoder, pooled once so that training its head costs next to nothing."""

    def __init__(self, objective: FinetuningObjective, examples: Any, batch_size: int) -> None:
        self.ways, self.row_of, self.lengths = examples.ways, examples.row_of, [1] * len(examples)
        labels, vectors = list[Tensor](), list[Tensor]()
        with torch.no_grad():
            encoder = objective.to(default_device()).eval()
            for begin in range(0, len(examples), batch_size):  # one at a time: what is read beside text may be large
                batch = _batch(examples, range(len(examples))[begin : begin + batch_size])
                labels.append(batch["labels"])
                vectors.append(encoder.states(**to_device(_inputs(batch), default_device())).float().cpu())
        self.labels, self.pooled = torch.cat(labels), torch.cat(vectors).unflatten(0, (-1, self.ways))  # (N, W, D)

    def __len__(self) -> int:
        return len(self.labels)

    def example(self, index: int, rng: np.random.Generator) -> int:
        """Its number; nothing is drawn."""
        return index

    def collate(self, examples: Sequence[int]) -> Batch:
        """`pooled` (B·W, D) and `labels` of some examples."""
        rows = list(examples)
        return {"pooled": self.pooled[rows].flatten(0, 1), "labels": self.labels[rows]}


@torch.no_grad()
def predict(objective: FinetuningObjective, examples: Any, batch_size: int, *, bf16: bool = False) -> list[np.ndarray]:
    """The head's output for every example, in order, float32: (C,); (L, C), without padding, if it reads tokens; (R,),
    with padding, if it reads regions; (W,) if it reads pairs."""
    device = default_device()
    objective = objective.to(device).eval()
    order = np.argsort(examples.lengths, kind="stable")
    outputs: list[np.ndarray] = [np.empty(0)] * len(order)
    in_pairs = objective.task.reads == "pairs"
    batch_size = 1 if in_pairs else batch_size
    for begin in range(0, len(order), batch_size):
        numbers = order[begin : begin + batch_size].tolist()
        batch = to_device(_inputs(_batch(examples, numbers)), device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            found = objective.outputs(**batch).float().cpu().numpy()
        found = found[None] if in_pairs else found
        for number, output in zip(numbers, found, strict=True):
            outputs[number] = output[: examples.lengths[number]] if objective.task.reads == "tokens" else output
    return outputs


def _batch(examples: Any, numbers: Sequence[int]) -> Batch:
    return examples.collate([examples.example(number, keyed_rng(0, 0, number)) for number in numbers])


def _inputs(batch: Batch) -> dict[str, Tensor]:
    return {name: value for name, value in batch.items() if name != "labels"}
