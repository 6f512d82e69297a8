import numpy as np
import pytest
from PIL import Image

from sightread.analysis.found import found_pictures, write_found
from sightread.analysis.strips import thumbnail
from sightread.association.captions import KeywordAssociation
from sightread.bank import ImageBank
from sightread.errors import DataError
from sightread.runtime import keyed_rng

SENTENCES = ["the red box & the cup", "xyzzy"]


@pytest.fixture(scope="module")
def associations(captions):
    pictures = captions.pictures
    features = keyed_rng(3).standard_normal((len(pictures), 4)).astype(np.float32)
    bank = ImageBank(pictures.ids, features, [str(pictures.path(i)) for i in range(len(pictures))])
    return {f"k{n}": KeywordAssociation.of_captions(bank, captions, k_words=n) for n in (1, 5)}


def test_each_row_is_what_an_association_finds(associations):
    first, second = found_pictures(associations, SENTENCES, 3)
    for name, association in associations.items():
        rows = association.retrieve(SENTENCES, 3)[0]
        assert [id_ for id_, _ in first[name]] == [association.bank.ids[row] for row in rows if row >= 0]
        for (_, shown), row in zip(first[name], rows, strict=False):
            assert shown == thumbnail(association.bank.paths[row])
        assert second[name] == []
    with pytest.raises(DataError, match="no sentence"):
        found_pictures(associations, [" "], 3)


def test_page_and_picture(associations, tmp_path):
    page, picture = write_found(associations, SENTENCES, tmp_path / "found", k=3)
    html, shown = (
        page.read_text(),
        sum(len(p) for row in found_pictures(associations, SENTENCES, 3) for p in row.values()),
    )
    assert html.count("<img") == shown
    assert html.count("nothing</span>") == 2
    assert "the red box &amp; the cup" in html
    assert "http" not in html
    with Image.open(picture) as image:
        assert image.size == (110 + 3 * 104 + 16, 2 * (30 + 2 * 104 + 8))
