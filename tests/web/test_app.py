"""The page's server: what it answers, what it refuses, and with which headers."""

import io
import re
from collections import Counter
from dataclasses import replace

import anyio
import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from sightread.errors import ArtifactError, ConfigError
from sightread.web.answers import kinds_of
from sightread.web.app import HEADERS, MAX_BODY, build_app
from sightread.web.exhibit import Exhibit
from sightread.web.questions import MAX_TEXT
from web_exhibit import make_exhibit

TEXT = "The red box isn't near anna’s lamp ."


@pytest.fixture(scope="module")
def exhibit(tmp_path_factory, vokenizer_folder, captions, voken_corpus_folder):
    return make_exhibit(tmp_path_factory.mktemp("probes"), vokenizer_folder, captions, voken_corpus_folder)


@pytest.fixture(scope="module")
def vokenizer(exhibit):
    return exhibit.vokenizers["all"]


def client_of(exhibit, **options):
    return TestClient(build_app(exhibit), "http://localhost", **options)


@pytest.fixture(scope="module")
def client(exhibit):
    return client_of(exhibit)


def asked(client, what, **question):
    answer = client.post(f"/api/{what}", json=question)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client, what, **question):
    answer = client.post(f"/api/{what}", json=question)
    assert answer.status_code == 422
    return answer.json()["error"]


def test_the_page_asks_nobody_else_and_holds_no_code(client):
    """So that its policy can be strict; what stands behind ? or # changes nothing."""
    page = client.get("/?text=a+box").text
    assert page == client.get("/").text
    assert "://" not in page
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>|<script [^>]*>[^<]", page)
    for path in re.findall(r'(?:src|href)="(/[^"]*)"', page):
        file = client.get(path)
        assert (file.status_code, file.headers["cache-control"]) == (200, "no-cache")
        assert "://" not in file.text
        for module in re.findall(r'from "\./([^"]+)"', file.text):
            assert client.get(f"/{module}").text.startswith("//")
    assert client.get("/page.js").headers["content-type"] == "text/javascript; charset=utf-8"


def test_about_tells_what_there_is(client, exhibit, captions):
    about = client.get("/api/about").json()
    assert [(v["name"], v["pictures"], v["lookedUp"]) for v in about["vokenizers"]] == [
        ("all", 24, True), ("fewer", 4, False)
    ]  # fmt: skip
    assert about["examples"] == [captions.texts[0]]
    assert (about["captions"], about["grounding"], about["corpus"]) == (True, True, exhibit.corpus.path.name)
    assert about["probes"] == {"plain": ["colours, accuracy"], "grounded": ["colours, accuracy"]}


def test_nothing_but_a_vokenizer_will_do(vokenizer):
    client = client_of(Exhibit(vokenizers={"one": vokenizer}))
    about = client.get("/api/about").json()
    assert (about["captions"], about["grounding"], about["corpus"], about["probes"]) == (False, False, None, {})
    assert len(about["examples"]) == 1
    (found,) = asked(client, "vokens", text="the box", vokenizers=["one"])
    assert [token["kind"] for token in found["tokens"]] == ["stop", "word"]
    assert asked(client, "captions", vokenizer="one", row=0)["captions"] == []
    assert "no voken corpus" in refused(client, "choosers", vokenizer="one", row=0)


def test_what_cannot_be_shown_is_said_at_once(exhibit, vokenizer):
    with pytest.raises(ConfigError, match="give a vokenizer"):
        build_app(Exhibit(vokenizers={}))
    with pytest.raises(ArtifactError, match="of no vokenizer here"):
        build_app(replace(exhibit, vokenizers={"fewer": exhibit.vokenizers["fewer"]}))


def test_every_token_has_its_pictures(client, exhibit):
    found = asked(client, "vokens", text=TEXT, vokenizers=["all", "fewer"])
    for by, (name, vokenizer) in zip(found, exhibit.vokenizers.items(), strict=True):
        assert by["vokenizer"] == name
        for shown, token in zip(by["tokens"], vokenizer([TEXT], min(8, len(vokenizer.bank)))[0], strict=True):
            assert (shown["text"], shown["start"]) == (TEXT[slice(*token.span)], token.span[0])
            assert [p["row"] for p in shown["pictures"]] == token.rows
            assert [p["id"] for p in shown["pictures"]] == token.image_ids
            assert [p["score"] for p in shown["pictures"]] == pytest.approx(token.scores)
    assert asked(client, "vokens", text="", vokenizers=["all"]) == [{"vokenizer": "all", "tokens": []}]


def test_kinds_are_those_of_whole_words(exhibit):
    spans = {
        "The": "stop",
        "red": "other",
        "bo": "grounded",
        "x": "grounded",
        "’": "other",
        "lam": "other",
        ".": "stop",
    }
    places = [(TEXT.index(part), TEXT.index(part) + len(part)) for part in spans]
    assert list(kinds_of(exhibit, TEXT, places)) == list(spans.values())


def test_a_sentence_is_the_mean_of_its_tokens(client, vokenizer):
    ids = vokenizer.tokenizer("a red box", add_special_tokens=False)["input_ids"]
    mean = vokenizer.token_vectors([ids])[0].numpy().astype(float).mean(axis=0)
    scores = vokenizer.bank.vectors.astype(float) @ mean / np.linalg.norm(mean)
    found = asked(client, "search", text="a red box", vokenizer="all")
    assert [one["row"] for one in found] == np.argsort(-scores, kind="stable").tolist()
    assert [one["score"] for one in found] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    assert len(asked(client, "search", text="a red box", vokenizer="fewer")) == 4
    assert "give some words" in refused(client, "search", text="  ", vokenizer="all")


def test_captions_are_those_of_the_picture(client, captions):
    id_ = captions.pictures.ids[0]
    assert asked(client, "captions", vokenizer="all", row=0) == {"id": id_, "captions": captions.texts[:2]}
    assert asked(client, "captions", vokenizer="all", row=1)["captions"] == []


def test_the_evidence_is_drawn(client, vokenizer):
    found = asked(client, "evidence", text="a red box", token=2, vokenizer="all", row=3)
    assert found["uri"].startswith("data:image/jpeg;base64,")
    assert -2 <= found["loss"] <= 2
    assert "3 tokens" in refused(client, "evidence", text="a red box", token=3, vokenizer="all", row=3)


def test_choosers_are_counted(client, exhibit):
    chose = [
        (line.text, line.text[s:e])
        for line in exhibit.corpus
        for voken, s, e in zip(line.voken_ids, line.starts, line.ends, strict=True)
        if voken == 2
    ]
    found = asked(client, "choosers", vokenizer="all", row=2)
    assert (found["tokens"], found["read"]) == (len(chose), 1.0)
    assert dict(map(tuple, found["types"])) == Counter(token for _, token in chose)
    assert {"".join(example) for example in found["examples"]} <= {line for line, _ in chose}
    assert all(example[1] in dict(found["types"]) for example in found["examples"])
    assert "no voken corpus of these" in refused(client, "choosers", vokenizer="fewer", row=2)


def test_answers_are_compared(client):
    name = {"first": "plain", "second": "grounded", "name": "colours, accuracy"}
    found = asked(client, "compare", **name, kind="all", begin=0)
    assert found["counts"] == {"all": 3, "first": 1, "second": 1, "equal": 1}
    assert [row["item"] for row in found["rows"]] == ["rose", "snow", "sky"]
    assert "have not both answered" in refused(client, "compare", **name | {"first": "x"}, kind="all", begin=0)


def test_downloads_hold_their_pictures(client):
    question = {"text": "the <b> box", "vokenizers": ["all", "fewer"]}
    page = client.post("/api/strip.html", json=question | {"least": -1})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "the &lt;b&gt; box" in page.text
    sources = re.findall(r'src="([^"]*)"', page.text)
    assert len(sources) == 5 * 5 + 5 * 4
    assert all(source.startswith("data:image/jpeg") for source in sources)
    none = client.post("/api/strip.html", json=question | {"least": 1})
    assert "<img" not in none.text
    drawn = Image.open(io.BytesIO(client.post("/api/strip.png", json=question | {"least": 0}).content))
    assert drawn.size == (5 * 104 + 8, 2 * (34 + 164))
    assert "empty" in refused(client, "strip.png", text=" ", vokenizers=["all"], least=0)


def test_pictures_are_small_and_kept_for_a_day(client, exhibit):
    for gallery in exhibit.galleries.values():
        small = client.get(f"/pictures/{gallery.key}/3/small.jpg")
        assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
        assert small.headers["cache-control"] == "private, max-age=86400"
        assert Image.open(io.BytesIO(small.content)).size == (224, 224)
    large = client.get(f"/pictures/{exhibit.galleries['all'].key}/3/large.jpg")
    with Image.open(exhibit.vokenizers["all"].bank.paths[3]) as picture:
        assert Image.open(io.BytesIO(large.content)).size == picture.size


def test_a_picture_that_is_gone_is_grey_and_not_kept(exhibit, vokenizer):
    bank = vokenizer.bank.select([0, 1])
    bank.paths = ["", "/nowhere/gone.png"]
    gone = type(vokenizer)(
        vokenizer.config, vokenizer.text_encoder, vokenizer.text_head, vokenizer.image_encoder, vokenizer.image_head,
        bank, embedded=True,
    )  # fmt: skip
    shown = Exhibit(vokenizers={"gone": gone})
    client = client_of(shown)
    for row in (0, 1):
        answer = client.get(f"/pictures/{shown.galleries['gone'].key}/{row}/small.jpg")
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
        assert Image.open(io.BytesIO(answer.content)).size == (224, 224)
        assert refused(client, "evidence", text="a box", token=1, vokenizer="gone", row=row)


ELSEWHERE = [
    "{key}/24/small.jpg", "{key}/-1/small.jpg", "{key}/0/huge.jpg", "{key}/0/small.png", "nokey/0/small.jpg",
    "{key}/../../../../etc/passwd", "{key}/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "{key}/0/..%2fsmall.jpg",
    "..%2f..%2fetc%2fpasswd", "{key}/0x1/small.jpg", "{key}/1e0/small.jpg", "{key}/" + "9" * 400 + "/small.jpg",
    "/etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("path", ELSEWHERE)
def test_there_are_no_other_pictures(client, exhibit, path):
    answer = client.get("/pictures/" + path.format(key=exhibit.galleries["all"].key))
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}
    assert "root:" not in answer.text


QUESTIONS = {  # what is asked for and what is said of it
    "too long": ({"text": "x" * (MAX_TEXT + 1), "vokenizers": ["all"]}, "text: .*at most 2000 characters"),
    "no text": ({"vokenizers": ["all"]}, "text: field required"),
    "a number": ({"text": 3, "vokenizers": ["all"]}, "text: .*valid string"),
    "no vokenizer": ({"text": "x", "vokenizers": []}, "vokenizers: .*at least 1 item"),
    "many": ({"text": "x", "vokenizers": ["all"] * 9}, "vokenizers: .*at most 8 items"),
    "unknown": ({"text": "x", "vokenizers": ["none"]}, "no vokenizer 'none' here; there are all, fewer"),
    "more": ({"text": "x", "vokenizers": ["all"], "path": "/etc"}, "path: extra inputs"),
}


@pytest.mark.parametrize(("question", "words"), QUESTIONS.values(), ids=QUESTIONS)
def test_refusals_are_for_people(client, question, words):
    assert re.search(words, refused(client, "vokens", **question))


@pytest.mark.parametrize(("name", "more"), [("captions", {}), ("evidence", {"text": "a", "token": 0})])
@pytest.mark.parametrize(("row", "words"), [(24, "24 pictures, and no number 24"), (-1, "row: "), ("0", "row: ")])
def test_there_are_no_other_rows(client, name, more, row, words):
    assert words in refused(client, name, vokenizer="all", row=row, **more)


def test_requests_are_limited(client):
    long = '{"text": "' + "x" * MAX_BODY + '", "vokenizers": ["all"]}'
    json = {"content-type": "application/json"}
    assert client.post("/api/vokens", content=long, headers=json).status_code == 413
    assert client.post("/api/vokens", content="{", headers=json).status_code == 422
    assert client.post("/api/vokens", content=b"\xff", headers=json).status_code == 422
    assert client.post("/api/vokens", content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.get("/api/vokens").status_code == 405
    assert client.get("/api/nothing").status_code == 404
    longest = {"text": "\N{GRINNING FACE}" * MAX_TEXT, "vokenizers": ["all"]}  # twelve bytes each, at worst
    assert client.post("/api/vokens", json=longest).status_code == 200


def test_every_answer_has_the_headers(client, exhibit):
    answers = [
        client.get("/"), client.get("/nothing"), client.get("/api/vokens"), client.get("/api/about"),
        client.post("/api/vokens", json={}), client.get("/", headers={"host": "evil.example"}),
        client.post("/api/vokens", content="x" * MAX_BODY * 2), client.get("/pictures/x/0/small.jpg"),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 404, 405, 200, 422, 400, 413, 404]
    for answer in answers:
        assert HEADERS.items() <= dict(answer.headers).items()
        assert "cache-control" in answer.headers
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|\*|https?:", policy)


def test_our_own_faults_are_not_shown(exhibit):
    def broken(word):
        raise RuntimeError(f"secret {word}")

    client = client_of(replace(exhibit, is_grounded=broken), raise_server_exceptions=False)
    answer = client.post("/api/vokens", json={"text": "box", "vokenizers": ["all"]})
    assert answer.status_code == 500
    assert HEADERS.items() <= dict(answer.headers).items()
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


HOSTS = {
    "localhost:8000": 200, "127.0.0.1": 200, "[::1]:1": 200, "evil.example": 400, "localhost.evil.example": 400, "": 400
}  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_no_other_name_is_answered(client, host, status):
    assert client.get("/api/about", headers={"host": host}).status_code == status


def test_many_at_once_get_what_each_gets_alone(exhibit):
    texts = ["the red box", "anna has a lamp .", "a", "garden garden cup"] * 4
    asks = [("vokens", {"text": text, "vokenizers": ["all"]}) for text in texts]
    asks += [("evidence", {"text": text, "vokenizer": "all", "row": 1, "token": 0}) for text in texts[:4]]

    async def together():
        answers = [None] * len(asks)

        async def ask(i, name, question):
            answers[i] = (await client.post(f"/api/{name}", json=question)).json()

        app = httpx2.ASGITransport(build_app(exhibit))
        async with httpx2.AsyncClient(transport=app, base_url="http://localhost") as client:
            async with anyio.create_task_group() as tasks:
                for i, what in enumerate(asks):
                    tasks.start_soon(ask, i, *what)
        return answers

    client = client_of(exhibit)
    alone = {str(what): asked(client, what[0], **what[1]) for what in asks}
    assert anyio.run(together) == [alone[str(what)] for what in asks]
