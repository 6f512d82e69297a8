"""Multiple choice: endings stay with their context, scores with their ending."""

import numpy as np
import pytest
import torch

from sightread.errors import DataError
from sightread.tasks.choice import Choice

HEADER = ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
ROWS = '0,v,1,A man sits. He,A man sits.,He,gold,stands up.,"eats, then sings.",is a tree.,flies.,2\n' \
       "1,v,1,The dog is red. It,The dog is red.,It,gold,barks.,reads.,swims.,sleeps.,0\n"  # fmt: skip


@pytest.fixture
def task(tmp_path):
    (tmp_path / "train.csv").write_text(HEADER + ROWS)
    (tmp_path / "val_part.csv").write_text(HEADER + ROWS)
    return Choice("swag", tmp_path)


def test_official_files(task):
    assert task.splits() == ["train", "dev"]
    first = task.load("train")[0]
    assert first.inputs == ("A man sits.", ("He stands up.", "He eats, then sings.", "He is a tree.", "He flies."))
    assert [row.gold for row in task.load("dev")] == [2, 0]


@pytest.mark.parametrize("label", ["4", "-1", "two", ""])
def test_a_wrong_label_is_named_by_line(label, task, tmp_path):
    (tmp_path / "train.csv").write_text(HEADER + ROWS + f"2,v,1,a b,a,b,gold,c,d,e,f,{label}\n")
    with pytest.raises(DataError, match=r"train\.csv:4 has label"):
        task.load("train")


def test_a_split_is_carved_where_there_is_no_training_split(tmp_path):
    rows = "".join(f"{i},v,1,x,sentence {i},It,gold,a,b,c,d,{i % 4}\n" for i in range(100))
    (tmp_path / "val.csv").write_text(HEADER + rows)
    task = Choice("swag", tmp_path, carve="dev")
    assert sum(len(task.load(split)) for split in task.splits()) == 100
    assert len(task.load("train")) > 60


def test_each_ending_is_read_with_its_own_context(task, tokenizer):
    rows = task.load("train")
    examples = task.encode(rows, tokenizer, 64)
    batch = examples.collate([1, 0])
    assert batch["input_ids"].shape[0] == 8
    assert batch["labels"].tolist() == [0, 2]
    for place, row in ((0, rows[1]), (4, rows[0])):
        for i, ending in enumerate(row.inputs[1]):
            ids = batch["input_ids"][place + i][batch["attention_mask"][place + i].bool()]
            assert ids.tolist() == tokenizer(row.inputs[0], ending)["input_ids"]
    assert examples.lengths == [max(len(tokenizer(r.inputs[0], e)["input_ids"]) for e in r.inputs[1]) for r in rows]


def test_scores_belong_to_their_endings(task):
    head = task.head(3)
    vectors = torch.randn(8, 3)
    with torch.no_grad():
        scores = head.eval()(vectors)
        weight, bias = head[0][1].weight[0], head[0][1].bias
    expected = (vectors @ weight + bias).reshape(2, 4)
    torch.testing.assert_close(scores, expected)
    assert task.predict(list(scores.numpy()), [], None) == expected.argmax(dim=1).tolist()
    logits, labels = np.array([[1.0, 0, 0, 0], [0, 0, 2.0, 0]]), [0, 1]
    by_hand = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)])
    assert float(task.loss(torch.tensor(logits), torch.tensor(labels))) == pytest.approx(by_hand, rel=1e-6)
