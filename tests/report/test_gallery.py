import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from skillrl.commands.gallery import gallery
from skillrl.discovery.library import SkillLibrary
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.report.gallery import training_curves

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page(_tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gallery(Path(shutil.copytree(_tiny_run, tmp_path_factory.mktemp("page") / "tiny")))


def test_every_skill_is_shown_with_what_is_known_of_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    articles = re.findall(r'<article id="skill-(\d)">(.*?)</article>', text, re.DOTALL)
    assert [number for number, _ in articles] == ["0", "1"]
    for (_, article), skill in zip(articles, SkillLibrary(page.parent), strict=True):
        video = re.search(r'src="(.*?)"', article)
        assert video is not None
        assert (page.parent / video[1]).read_bytes()[4:8] == b"ftyp"
        assert f"{skill.record.mean_reward:.3g} of 0.05" in article
        assert article.count("<polyline") == 2
    # The names lead to them.
    for index in range(2):
        assert f'<a href="#skill-{index}"><span' in text.partition("<main>")[0]
    assert "the untrained policy" in articles[0][1]
    assert '<a href="#skill-0">skill 0</a>' in articles[1][1]
    assert 'went on in\n<a href="#skill-1">1</a>' in articles[0][1]


def test_the_page_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "://" not in text.replace("data:image", "")
    assert "<script" not in text


def test_the_training_curve_is_that_of_the_log(page: Path) -> None:
    curves = training_curves(page.parent / "progress.csv")
    # Rollouts of 128 steps, every fourth of which is logged: 512 steps are four of them.
    assert {skill: steps for skill, (steps, _) in curves.items()} == {0: [512.0], 1: [512.0]}
    assert "all skills\ntogether" not in page.read_text(encoding="utf-8")
    assert all(0.0 <= reward <= 0.05 for _, means in curves.values() for reward in means)
    assert training_curves(page.parent / "nowhere.csv") == {}


def test_skills_that_are_learnt_together_share_their_training_curve(
    _tiny_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(_tiny_run, tmp_path / "together"))
    # As DIAYN and METRA write it.
    rows = ["time/total_timesteps,skill,rollout/mean_reward", "128,,-0.5", "256,,0.25", "cut,"]
    (run / "progress.csv").write_text("\n".join(rows), encoding="utf-8")
    assert training_curves(run / "progress.csv") == {None: ([128.0, 256.0], [-0.5, 0.25])}
    header, _, articles = gallery(run).read_text(encoding="utf-8").partition("<main>")
    assert "all skills\ntogether" in header
    assert header.count("<polyline") == 1
    assert ">0.25<" in header  # the top of the chart
    assert articles.count("<polyline") == 2  # each skill's filmed episode


def test_names_are_text_and_not_html(_tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(_tiny_run, tmp_path / "<b>bold"))
    text = gallery(run).read_text(encoding="utf-8")
    assert html.escape("<b>bold") in text
    assert "<b>bold" not in text


def test_a_run_without_skills_has_no_gallery(tiny_run: Path) -> None:
    shutil.rmtree(tiny_run / "skills")
    with pytest.raises(InvalidValueError, match="no finished skill"):
        gallery(tiny_run)
    with pytest.raises(DamagedFileError, match="is not a run"):
        gallery(tiny_run / "nowhere")


MEASURE = """
<script>
const videos = [...document.querySelectorAll("video")];
const loaded = videos.map((video) => new Promise((done) => {
  video.addEventListener("loadedmetadata", () => done(video.videoWidth));
  video.addEventListener("error", () => done(0));
  video.preload = "auto";
  video.load();
}));
Promise.all(loaded).then((widths) => {
  const root = document.documentElement;
  const columns = getComputedStyle(document.querySelector("main")).gridTemplateColumns;
  document.body.dataset.found = JSON.stringify(
    { widths, overflow: root.scrollWidth - innerWidth, columns: columns.split(" ").length });
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
@pytest.mark.parametrize(("width", "columns"), [(500, 1), (1600, 4)])
def test_a_browser_shows_it_on_narrow_and_wide_screens(
    width: int, columns: int, page: Path
) -> None:
    measured = page.with_name(f"measured-{width}.html")
    measured.write_text(page.read_text(encoding="utf-8") + MEASURE, encoding="utf-8")
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
        *(f"--window-size={width},1000", "--virtual-time-budget=20000", measured.as_uri()),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    match = re.search(r'data-found="(.*?)"', result.stdout)
    assert match is not None, result.stderr
    found = json.loads(html.unescape(match[1]))
    assert found["widths"] == [256, 256]
    assert found["overflow"] <= 0
    assert found["columns"] == columns
