"""The page in a real browser, served by the command: `make test-web`."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from web_exhibit import ANSWERS, write_probe

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.web, pytest.mark.timeout(300),
    # each test and not the module, as pytest takes it for an error if there is no test
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]  # fmt: skip
expect = playwright.expect
expect.set_options(timeout=30_000)  # on a machine that does much else
TEXT = "the red box is near anna ."
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
LOOK = (Path(__file__).parent / "looking.js").read_text()


@pytest.fixture(scope="module")
def address(vokenizer_folder, world_folder, voken_corpus_folder, tmp_path_factory):
    """Of a server of two vokenizers, one of them named by its folder, and all that can be beside them."""
    probes = tmp_path_factory.mktemp("probes")
    for encoder, answers in ANSWERS.items():
        write_probe(probes, encoder, answers)
    words = ["serve", "--vokenizer", vokenizer_folder, "--vokenizer", f"again={vokenizer_folder}", "--port", "0"]
    words += ["--captions", world_folder, "--corpus", voken_corpus_folder, "--probes", probes]
    code = "from sightread.cli import app; app()"
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as server:
        yield re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())[0]
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as made:
        browser = made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open the page at some state; nothing may go wrong in it, and nobody else be asked."""
    contexts, wrong = [], []

    def visit(state="", viewport=WIDE, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or wrong.append(r.url))
        page.goto(f"{address}/#{state}")
        page.wait_for_load_state("networkidle")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong


def strips(page):
    return page.locator("#strips article")


def test_type_and_see(visit):
    page = visit("text=")
    expect(strips(page)).to_have_count(0)
    page.get_by_label("Text").fill(TEXT)
    expect(strips(page)).to_have_count(2)
    for strip in strips(page).all():
        assert strip.locator("b").all_inner_texts() == TEXT.split()
        for picture in strip.locator("img").all():
            assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 224
        assert all(re.fullmatch(r"−?[01]\.\d\d", score) for score in strip.locator(".score").all_inner_texts())
    expect(page.locator("#legend")).to_contain_text("stop word")
    assert {"kind grounded", "kind stop"} <= {word.get_attribute("class") for word in page.locator(".kind").all()}


def test_it_opens_with_an_example(visit):
    page = visit()
    expect(strips(page)).to_have_count(2)
    other = page.locator("#examples button").nth(1)
    other.click()
    expect(page.get_by_label("Text")).to_have_value(other.inner_text())
    assert page.locator("article").first.locator("b").all_inner_texts() == other.inner_text().split()


def test_click_and_look_closer(visit):
    page = visit(f"text={TEXT}")
    token = strips(page).nth(0).locator(".token").nth(2)
    token.click()
    detail = page.get_by_role("complementary")
    expect(detail.get_by_role("heading", level=2)).to_contain_text("box")
    expect(detail.locator(".grid button")).to_have_count(8)
    expect(token).to_have_attribute("aria-expanded", "true")
    expect(strips(page).nth(1).locator(".token").nth(2)).to_have_class("token same")
    expect(detail.locator("h3", has_text="Captions").locator("xpath=..").locator("li")).to_have_count(2)
    expect(detail).to_contain_text("tokens of voken_corpus")
    detail.get_by_role("radio", name="Where the evidence is").check()
    expect(detail.locator(".heat")).to_have_count(1)
    expect(detail).to_contain_text(re.compile("is covered"))
    detail.locator(".grid button").nth(3).click()
    expect(detail.locator(".grid button").nth(3)).to_have_attribute("aria-expanded", "true")
    expect(detail.locator(".heat")).to_have_count(1)
    detail.get_by_role("button", name="Close").click()
    expect(detail).to_be_hidden()
    expect(token).to_be_focused()


def test_switch_vokenizers_and_hide_low_scores(visit):
    page = visit(f"text={TEXT}")
    page.get_by_role("checkbox", name="again").uncheck()
    expect(strips(page)).to_have_count(1)
    page.get_by_role("checkbox", name="vokenizer").click()
    expect(page.get_by_role("checkbox", name="vokenizer")).to_be_checked()  # one at least
    scores = [float(token.get_attribute("data-score")) for token in page.locator(".token").all()]
    least = sorted(scores)[3] - 0.005
    page.get_by_label("Least score").fill(f"{least:.2f}")
    expect(page.locator(".token.low")).to_have_count(sum(score < round(least, 2) for score in scores))


def test_a_link_shows_what_was_seen(visit):
    page = visit(f"text={TEXT}")
    page.get_by_role("checkbox", name="vokenizer").uncheck()
    expect(strips(page)).to_have_count(1)
    page.get_by_label("Least score").fill("0.3")
    page.locator(".token").nth(2).click()
    page.locator("#detail .grid button").nth(1).click()
    page.get_by_role("radio", name="Where the evidence is").check()
    expect(page.locator(".heat")).to_have_count(1)
    again = visit(page.url.partition("#")[2])
    expect(again.locator(".heat")).to_have_count(1)
    for what in ("#strips", "#detail"):
        expect(again.locator(what)).to_have_text(page.locator(what).inner_text(), use_inner_text=True)
    assert again.get_by_label("Least score").input_value() == "0.3"
    assert again.url == page.url


BROKEN = [
    "text=%E0&least=x&on=none&of=vokenizer&token=99&row=-1", "tab=none", "&&=", "tab=probes&first=x&probe=y"
]  # fmt: skip


@pytest.mark.parametrize("state", BROKEN)
def test_a_broken_link_still_shows_the_page(visit, state):
    page = visit(state)
    expect(page.locator("h1:visible")).to_have_count(1)
    expect(page.locator("#detail")).to_be_hidden()


def test_search_the_bank_and_who_chose(visit):
    page = visit("query=")
    page.get_by_role("button", name="Pictures").click()
    page.get_by_label("Search the bank").fill("a red box")
    expect(page.locator("#found button")).to_have_count(24)
    page.locator("#found button").first.click()
    expect(page.get_by_role("complementary")).to_contain_text("tokens of voken_corpus")
    page.get_by_role("radio", name="again").check()
    expect(page.get_by_role("complementary")).to_be_hidden()
    page.go_back()
    expect(page.get_by_label("Text")).to_be_visible()


def test_compare_answers(visit):
    page = visit("tab=probes")
    rows = page.locator("#probes tbody tr")
    expect(rows).to_have_count(3)
    expect(page.locator("#scores")).to_contain_text("0.500")
    page.get_by_role("radio", name="grounded is better, 1").check()
    expect(rows).to_have_count(1)
    expect(rows.locator(".won")).to_have_text("red")
    page.get_by_label("First").select_option("grounded")
    expect(page.locator("#scores p").first).to_contain_text("grounded")
    expect(page.get_by_role("button", name="More")).to_be_hidden()


def test_take_it_away(visit):
    page = visit(f"text={TEXT}")
    taken = {}
    for kind in ("PNG", "HTML"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        taken[download.value.suggested_filename] = download.value.path().read_bytes()
    assert Image.open(io.BytesIO(taken["vokens.png"])).width == 7 * 104 + 8
    assert taken["vokens.html"].count(b"<img") == 2 * 7 * 5
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#status")).to_have_text("the link is copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_the_keyboard_will_do(visit):
    page = visit("text=&on=vokenizer")
    press = page.keyboard.press
    page.get_by_label("Text").focus()
    page.keyboard.type(TEXT)
    expect(page.locator(".token")).to_have_count(7)
    for _ in range(20):
        press("Tab")
        if page.evaluate("document.activeElement.className") == "token":
            break
    focused = page.locator(":focus")
    for key, word in [
        ("ArrowRight", "red"),
        ("ArrowRight", "box"),
        ("End", "."),
        ("Home", "the"),
        ("ArrowLeft", "the"),
    ]:
        press(key)
        expect(focused.locator("b")).to_have_text(word)
    press("Enter")
    expect(page.locator("#detail h2")).to_contain_text("the")
    press("ArrowRight")
    expect(page.locator("#detail h2")).to_contain_text("red")
    press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(focused.locator("b")).to_have_text("red")
    press("Tab")
    assert page.evaluate("document.activeElement.className") != "token"  # a strip is one stop


STATES = {
    "tokens": f"text={TEXT}&least=0.2&of=vokenizer&token=2&evidence=1",
    "pictures": "tab=pictures&query=a+box&of=vokenizer&row=3", "probes": "tab=probes",
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_it_can_be_read_by_all(visit, state, scheme):
    page = visit(STATES[state], color_scheme=scheme)
    seen = page.evaluate(LOOK)
    assert seen["texts"] > 10
    assert seen["faint"] == []  # WCAG 2.2, 1.4.3: a contrast of 4.5
    assert seen["nameless"] == []


@pytest.mark.parametrize("state", STATES)
def test_it_fits_a_phone(visit, state):
    page = visit(STATES[state], PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    detail = page.locator("#detail")
    if detail.is_visible():
        box = detail.bounding_box()
        assert (box["x"], box["width"]) == (0, PHONE["width"])
        assert box["y"] > 60  # what it belongs to stays in sight
        page.get_by_role("button", name="Close").click()
    small = [b.bounding_box() for b in page.locator("button:visible").all()]
    assert min(min(box["width"], box["height"]) for box in small) >= 24  # WCAG 2.2, 2.5.8


def test_text_is_never_code(visit):
    page = visit("text=" + "<img src=x onerror=document.title='gone'>")
    expect(page.locator(".token").first).to_be_visible()
    assert page.title() == "sightread"
    assert page.locator("img[src=x]").count() == 0


def test_what_goes_wrong_is_said(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/#text={TEXT}")
    expect(strips(page)).to_have_count(2)
    page.route("**/api/vokens", lambda route: route.abort())
    page.get_by_label("Text").fill("a box")
    expect(page.locator("#status")).to_contain_text("is it still running?")
    page.unroute("**/api/vokens")
    refusal = json.dumps({"error": "too long for us"})
    page.route("**/api/vokens", lambda route: route.fulfill(status=422, body=refusal))
    page.get_by_label("Text").fill("a box .")
    expect(page.locator("#status")).to_have_text("too long for us")
    page.close()
