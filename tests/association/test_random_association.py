import numpy as np
import pytest
from small_banks import make_bank, make_captions

from sightread.association.build import build_association
from sightread.association.captions import KeywordAssociation
from sightread.association.chance import RandomAssociation
from sightread.association.folder import load_association
from sightread.errors import ConfigError


def test_pictures_by_chance_depend_on_the_text_and_the_seed_alone(tmp_path):
    bank = make_bank([str(i) for i in range(20)])
    drawn = RandomAssociation(bank, seed=1)
    texts = [f"text {i}" for i in range(300)]
    found = drawn.retrieve([*texts, "", " "], 4)
    assert (found[-2:] == -1).all()
    assert all(len({*row}) == 4 for row in found[:300].tolist())
    assert np.bincount(found[:300].ravel(), minlength=20).min() > 30  # 60 expected of each
    assert drawn.retrieve(texts[7:8], 2).tolist() == found[7:8, :2].tolist()
    assert RandomAssociation(bank, seed=2).retrieve(texts, 4).tolist() != found[:300].tolist()
    loaded = load_association(drawn.save(tmp_path / "random"))
    assert loaded.retrieve(texts, 4).tolist() == found[:300].tolist()
    assert build_association("random", bank=lambda: bank).kind == "random"
    with pytest.raises(ConfigError, match="k=21: expected between 1 and the 20"):
        drawn.retrieve(texts, 21)


def test_the_control_of_an_association_finds_where_that_one_does(tmp_path):
    bank = make_bank([str(i) for i in range(9)])
    like = KeywordAssociation.of_captions(bank, make_captions([("1", "dog"), ("4", "red dog"), ("7", "a dog")]))
    control = build_association("random", bank=lambda: bank, like=lambda: like)
    texts = ["dog", "red", "river", "", "the dog"]
    found, plain = control.retrieve(texts, 4), RandomAssociation(bank).retrieve(texts, 4)
    assert ((found >= 0).sum(axis=1).tolist(), (like.retrieve(texts, 4) >= 0).sum()) == ([3, 1, 0, 0, 3], 7)
    assert (found[found >= 0] == plain[found >= 0]).all()
    assert control.digest != RandomAssociation(bank).digest
    loaded = load_association(control.save(tmp_path / "control"))
    assert loaded.retrieve(texts, 4).tolist() == found.tolist()
    assert load_association(loaded.save(tmp_path / "again")).digest == control.digest
    with pytest.raises(ConfigError, match="of another bank"):
        RandomAssociation(make_bank(["1", "2"]), like=like)
