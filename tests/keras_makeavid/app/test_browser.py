"""The page in Debian's Chromium, as people use it.

    SCREENSHOTS=docs/page python -m pytest -m slow tests/keras_makeavid/app/

writes the pictures of docs/page.md.
"""

import io
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from app_serving import served
from PIL import Image

from keras_makeavid import video

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]
QUICK = "?steps=6&frames=8&prompt=a+red+star+moving+left"
# Of the test picture of Chromium's camera.
GREEN = (0, 136, 0)
# Of a busy machine with two cores.
WAIT = 240_000


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    samples = folder / "samples/step-00000200"
    samples.mkdir(parents=True)
    frames = np.zeros((8, 64, 64, 3), "uint8")
    for number in range(8):
        frames[number, 20:40, 6 * number : 6 * number + 16] = (220, 40, 40)
    video.write_video(samples / "0.mp4", frames, 8)
    lines = (
        f'{{"step": {step}, "stage": "temporal", "epoch": 1, "loss": '
        f'{0.9 * 0.99**step + 0.1}, "lr": 0.0001, "grad_norm": {1 + 10 / step}}}\n'
        for step in range(1, 301)
    )
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def address(run_folder, tmp_path_factory):
    log = tmp_path_factory.mktemp("app") / "log.txt"
    with served("--run", run_folder, log=log) as (address, _):
        yield address
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        # The camera is the browser's own test picture, and may be used.
        camera = ("ui", "device")
        words = ["--no-sandbox", *(f"--use-fake-{w}-for-media-stream" for w in camera)]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=words)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    """Opens the page in a browser of its own: `visit(query, **options)`."""
    contexts = []

    def visit(query=QUICK, **options):
        options = {"viewport": {"width": 1200, "height": 860}} | options
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.goto(address + query)
        prompt = page.get_by_label("Prompt", exact=True)
        if "prompt=" in query:
            sync_api.expect(prompt).not_to_have_value("", timeout=WAIT)
        else:
            prompt.wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def shoot():
    """Keeps a picture of a page, if there is a folder for it."""

    def shoot(page, name, **options):
        if folder := os.environ.get("SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = Path(folder, f"{name}.jpg")
            page.wait_for_timeout(1000)  # What was scrolled to is to be drawn.
            page.screenshot(path=path, type="jpeg", quality=60, **options)

    return shoot


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def shows(element, colour):
    """Wait until some of an element has a colour."""
    found, end = False, time.monotonic() + WAIT / 1000
    while not found:
        assert time.monotonic() < end, f"nothing of {element} becomes {colour}"
        pixels = np.array(Image.open(io.BytesIO(element.screenshot())).convert("RGB"))
        found = (np.abs(pixels.astype(int) - colour).max(-1) < 8).any()


def unfold(page, name):
    page.locator("button.label-wrap", has_text=name).click()


def playing(page):
    """Wait until the video plays; its address."""
    page.wait_for_function(
        "() => { const v = document.querySelector('#result video');"
        "return v && !v.paused && v.currentTime > 0 && v.videoWidth > 0; }"
    )
    return page.eval_on_selector("#result video", "video => video.currentSrc")


def status(page, text):
    sync_api.expect(page.locator("#status")).to_contain_text(text, timeout=WAIT)


def test_a_prompt_becomes_a_video_that_plays(visit, shoot):
    page = visit()
    press(page, "Make the video")
    status(page, " s left")
    page.locator("#preview img").wait_for()
    shoot(page, "working")
    first = playing(page)
    status(page, "Made in")
    assert page.request.get(first).body()[4:8] == b"ftyp"
    shoot(page, "made")
    unfold(page, "Make the same video elsewhere")
    sync_api.expect(page.locator("#python")).to_contain_text("task.generate(")
    sync_api.expect(page.locator("#python")).to_contain_text("num_steps=6")
    link = page.locator("#link textarea, #link input").input_value()
    other = visit(link[link.index("?") :])
    unfold(other, "Size, steps and seed")
    sync_api.expect(other.get_by_label("number input for Steps")).to_have_value("6")
    assert other.get_by_label("Keep the seed").is_checked()
    press(other, "Make the video")
    frames = [
        page.request.get(address.replace("video.mp4", "last_frame.png")).body()
        for address in (first, playing(other))
    ]
    assert frames[0] == frames[1]


def test_results_are_gone_on_from(visit, shoot):
    page = visit()
    press(page, "Make the video")
    first = playing(page)
    page.get_by_label("Prompt", exact=True).fill("a blue star moving left")
    press(page, "Same seed again")
    page.wait_for_function(
        "first => { const v = document.querySelector('#result video');"
        "return v && v.currentSrc != first; }",
        arg=first,
    )
    assert playing(page) != first
    history = page.locator("#history button.thumbnail-item")
    sync_api.expect(history).to_have_count(2)
    history.first.click()
    page.wait_for_function(
        "first => document.querySelector('#result video').currentSrc == first",
        arg=first,
    )
    unfold(page, "Start from a picture")
    press(page, "Go on from the last frame")
    page.locator("#hint canvas").first.wait_for()
    press(page, "Make the video")
    sync_api.expect(history).to_have_count(3, timeout=WAIT)
    made = playing(page).replace("video.mp4", "hint.png")
    assert page.request.get(made).ok
    shoot(page, "history", full_page=True)


def test_a_mask_is_painted_on_a_picture(visit, shoot, tmp_path):
    picture = np.zeros((96, 128, 3), "uint8")
    picture[:] = 60, 60, 60
    picture[30:60, 40:80] = 40, 90, 220
    video.write_image(tmp_path / "square.png", picture)
    page = visit()
    unfold(page, "Start from a picture")
    page.set_input_files("#hint input[type=file]", tmp_path / "square.png")
    canvas = page.locator("#hint canvas").first
    # What is painted before the picture has arrived would be on an empty sheet.
    shows(canvas, picture[40, 60])
    page.locator("#hint button[aria-label=Brush]").click()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] - 60, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1], steps=12)
    page.mouse.up()
    page.wait_for_timeout(500)
    press(page, "Make the video")
    made = playing(page)
    shoot(page, "mask", full_page=True)
    files = {
        name: np.array(Image.open(io.BytesIO(page.request.get(place).body())))
        for name in ("hint.png", "mask.png")
        for place in [made.replace("video.mp4", name)]
    }
    np.testing.assert_array_equal(files["hint.png"], picture)
    mask = files["mask.png"][..., 0]
    assert mask.shape == (96, 128)
    assert mask[48, 50:78].min() == 255 and mask[:5].max() == 0


def test_a_picture_of_the_camera_is_a_start(visit):
    page = visit()
    unfold(page, "Start from a picture")
    page.locator("#hint button[aria-label=Webcam]").click()
    page.locator("#hint").get_by_text("Click to Access Webcam").click()
    shows(page.locator("#hint video"), GREEN)
    page.locator("#hint button[aria-label='capture photo']").click()
    shows(page.locator("#hint canvas").first, GREEN)
    press(page, "Make the video")
    hint = page.request.get(playing(page).replace("video.mp4", "hint.png"))
    assert np.array(Image.open(io.BytesIO(hint.body())))[0, 0, 1] > 120


def test_cancelling_ends_a_video_and_the_next_one_works(visit, shoot):
    page = visit("?steps=100&prompt=a+red+star")
    press(page, "Make the video")
    status(page, "Step ")
    press(page, "Cancel")
    status(page, "Cancelled.")
    shoot(page, "cancelled")
    page.goto(page.url.partition("?")[0] + QUICK)
    page.get_by_label("Prompt", exact=True).wait_for()
    press(page, "Make the video")
    playing(page)


def test_two_visitors_wait_in_one_queue_and_see_their_own_videos(visit, shoot):
    seed = "&seed=7&keep_seed=true"
    one = visit("?steps=30&frames=8&prompt=a+red+star+moving+left" + seed)
    other = visit("?steps=6&frames=8&prompt=a+blue+square+spinning" + seed)
    press(one, "Make the video")
    status(one, "Step ")
    press(other, "Make the video")
    # A place in the queue, as Gradio shows it.
    other.get_by_text(re.compile(r"queue: \d")).wait_for()
    shoot(other, "queue")
    addresses = [playing(page) for page in (one, other)]
    folders = {re.search("session-[^/]+", address)[0] for address in addresses}
    assert len(folders) == 2
    bodies = {one.request.get(address).body() for address in addresses}
    assert len(bodies) == 2
    sync_api.expect(one.locator("#history button.thumbnail-item")).to_have_count(1)


def test_a_hostile_upload_is_refused_in_a_sentence(visit, shoot, tmp_path):
    (tmp_path / "cat.png").write_text("<html><script>alert(1)</script>")
    page = visit()
    unfold(page, "Keyframes")
    chooser = page.locator("input[type=file][accept*=image]").last
    chooser.set_input_files(tmp_path / "cat.png")
    page.get_by_label("Frames of the keyframes").fill("0")
    page.wait_for_timeout(1500)
    press(page, "Make the video")
    said = page.get_by_text("cat.png is a page of a website").first
    said.wait_for()
    said.scroll_into_view_if_needed()
    shoot(page, "refused")
    again = visit()
    press(again, "Make the video")
    playing(again)


def test_the_page_fits_a_phone(visit, shoot):
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="Make the video").tap()
    playing(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    page.locator("#result").scroll_into_view_if_needed()
    shoot(page, "phone")


def test_the_keyboard_alone_is_enough(visit):
    page = visit("?steps=6&frames=8")
    for _ in range(10):
        if page.evaluate("document.activeElement.placeholder") == "What to show":
            break
        page.keyboard.press("Tab")
    page.keyboard.type("a white dancer waving")
    page.keyboard.press("Enter")
    playing(page)
    # On to the button, by which the next one begins.
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Make the video":
            break
    page.keyboard.press("Enter")
    history = page.locator("#history button.thumbnail-item")
    sync_api.expect(history).to_have_count(2, timeout=WAIT)


def test_the_page_is_dark_for_those_who_like_it_dark(visit, shoot):
    page = visit(color_scheme="dark")
    press(page, "Make the video")
    playing(page)
    colours = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor,"
        "getComputedStyle(document.querySelector('#status')).color]"
    )
    dark, light = (
        np.mean([int(x) for x in re.findall(r"\d+", c)[:3]]) for c in colours
    )
    assert dark < 60 and light > 150
    shoot(page, "dark")


def test_few_steps_and_a_dice_change_the_form(visit):
    page = visit()
    unfold(page, "Size, steps and seed")
    seed = page.get_by_label("Seed", exact=True)
    press(page, "🎲 New seed")
    sync_api.expect(seed).not_to_have_value("0")
    page.get_by_label("Few steps").check()
    sync_api.expect(page.get_by_label("number input for Steps").first).to_have_value(
        "4"
    )
    sync_api.expect(page.get_by_label("Scheduler")).to_have_value("lcm")


def test_a_model_is_evaluated_and_a_run_is_shown(visit, shoot):
    page = visit()
    page.get_by_role("tab", name="Evaluate").click()
    page.get_by_label("number input for Prompts of each kind").fill("1")
    page.get_by_label("number input for Steps").last.fill("6")
    press(page, "Evaluate")
    sync_api.expect(page.locator("#table")).to_contain_text("held-out", timeout=WAIT)
    shoot(page, "evaluation")
    page.get_by_role("tab", name="Run").click()
    sync_api.expect(page.locator("#run-status")).to_contain_text("step 3")
    page.get_by_text("0: step 200").first.wait_for()
    page.wait_for_timeout(1500)
    shoot(page, "run")
