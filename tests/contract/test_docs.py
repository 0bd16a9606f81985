"""The pages for people, held against what they speak of, and the site that is built of them."""

import ast
import contextlib
import html
import importlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest
import typer.main
import yaml
from tool_modules import load_script

from crossprop.cli import app
from crossprop.config import Params, load_params, parse_params
from crossprop.data.catalog import load_catalog
from crossprop.inference.predictor import OUTPUT_COLUMNS
from crossprop.methods import Method

ROOT = Path(__file__).resolve().parents[2]
FOUND = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/*.md")]
PAGES = sorted(page for page in FOUND if "_build" not in page.parts)
STUDIES = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "study").glob("*.yaml")}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
TOOLS = ("crossprop", "make", "dvc", "mlflow", "python", "optuna-dashboard")

load_script("docs/_extensions/reference_sections.py")  # the others import it by this name
configuration = load_script("docs/_extensions/configuration_reference.py")
rest = load_script("docs/_extensions/rest_reference.py")
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def _blocks(text, language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def _commands(page):
    """Words of every command of our tools: lines of bash blocks, and code within a sentence."""
    text = page.read_text()
    lines = [line for block in _blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    commands = []
    for line in lines:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if len(words) > 1 and words[0] in TOOLS and "…" not in line and "|" not in words:
            commands.append(words)
    return commands


STAGE_COMMANDS = [tuple(shlex.split(stage.get("do", stage)["cmd"])) for stage in STAGES.values()]
ALL_COMMANDS = sorted({*(tuple(words) for page in PAGES for words in _commands(page)), *STAGE_COMMANDS})

OWN_PROPERTIES = {
    words[words.index("--target") + 1]
    for words in ALL_COMMANDS
    if words[:3] == ("crossprop", "data", "add") and "--target" in words
}
"""Names that the pages give to a reader's own data."""

OWN_STUDIES = {words[3] for words in ALL_COMMANDS if words[:3] == ("crossprop", "study", "new") and words[3:]}
"""Studies that the pages have a reader make."""


def _of(tool):
    found = [words for words in ALL_COMMANDS if words[0] == tool]
    assert found, f"no page names a command of {tool}: is the search broken?"
    return pytest.mark.parametrize("words", found, ids=" ".join)


def _anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@by_page
def test_relative_links_and_pictures_exist(page):
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link} does not exist"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} lies outside the repository"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {link} names no heading"


@by_page
def test_python_of_a_page_can_be_read_and_imports_what_exists(page):
    for block in _blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(dedent(block))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "crossprop":
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@_of("crossprop")
def test_crossprop_command_exists(words):
    command = typer.main.get_command(app)
    arguments = list(words[1:])
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        assert name in command.commands, f"{' '.join(words)}: there is no {name}"
        command = command.commands[name]
    options = {"--help"}.union(*(parameter.opts for parameter in command.params))
    for argument in arguments:
        if argument.startswith("-"):
            assert argument.partition("=")[0] in options
        elif command.name in ("show", "fetch") and argument not in OWN_PROPERTIES:
            load_catalog().property(argument)


@_of("make")
def test_make_target_and_variables_exist(words):
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        name, is_variable, value = word.partition("=")
        kind = rf"^{name} \?=" if is_variable else rf"^{re.escape(name)}:"
        assert re.search(kind, makefile, flags=re.MULTILINE), f"the Makefile has no {name}"
        if name == "LOCK":
            assert (ROOT / value).is_file()
        if name == "STAGE":
            _check_stage(value)


@cache
def _dvc_parser():
    from dvc.cli.parser import get_main_parser

    return get_main_parser()


@_of("dvc")
def test_dvc_command_is_understood(words):
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            arguments = _dvc_parser().parse_args(words[1:])
    except SystemExit as stopped:
        pytest.fail(f"{' '.join(words)}: {stopped.code}, {errors.getvalue()}")
    if words[1] == "repro" or words[1:3] == ("exp", "run"):
        for stage in arguments.targets:
            _check_stage(stage)
    for override in getattr(arguments, "set_param", None) or []:
        key, _, value = override.partition("=")
        if (ROOT / "conf" / key).is_dir():
            assert value in OWN_STUDIES or (ROOT / "conf" / key / f"{value}.yaml").is_file()
        else:
            section = load_params(ROOT / "params.yaml")
            for part in key.split("."):
                section = getattr(section, part)


def _check_stage(name):
    stage, _, item = name.partition("@")
    assert stage in STAGES
    if item:
        key = re.search(r"study\.(\w+)", STAGES[stage]["foreach"])[1]
        assert any(item in study.get(key, study["sources"]) for study in STUDIES.values()), name


@_of("mlflow")
def test_mlflow_project_entry_point_and_parameters_exist(words):
    from mlflow.cli import cli

    assert words[1] in cli.commands
    if words[1] != "run":
        return
    entry = MLPROJECT[words[words.index("-e") + 1]] if "-e" in words else MLPROJECT["main"]
    given = dict(words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "-P")
    assert set(given) <= set(entry["parameters"])
    assert {name for name, facts in entry["parameters"].items() if "default" not in facts} <= set(given)
    for name, field in (("source", "sources"), ("name", "joint"), ("shard", "shards")):
        if name in given and "${" not in given[name]:
            assert given[name] in STUDIES["transport"][field], "of the default study"


@_of("python")
def test_script_exists_and_takes_the_options(words):
    script = (ROOT / words[1]).read_text()
    for option in (word for word in words[2:] if word.startswith("--") and words[1] != "tools/lock.py"):
        assert f'"{option}"' in script


def test_model_that_mlflow_loads_is_one_that_the_default_study_registers(compose):
    page = (ROOT / "docs" / "how-to" / "study.md").read_text()
    (snippet,) = [block for block in _blocks(page, "python") if "mlflow" in block]
    study, target, alias = re.search(r"models:/(\w+)\.(\w+)@(\w+)", snippet).groups()
    params = parse_params(compose()).study
    assert (study, alias) == (params.name, "challenger")
    assert target in params.targets
    assert '"formula"' in snippet
    assert [column for column in OUTPUT_COLUMNS if f"`{column}`" not in page] == []


def test_every_study_method_benchmark_and_picture_is_on_its_page():
    guide, engine = ((ROOT / "docs" / page).read_text() for page in ("how-to/study.md", "engine.md"))
    readme, protocol = (ROOT / "README.md").read_text(), (ROOT / "docs/protocol.md").read_text()
    for study in STUDIES:
        assert f"`{study}`" in readme
        assert f"| `{study}` |" in guide
    for method in Method:
        for page in (protocol, guide):
            assert f"`{method}`" in page, method
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()]
    assert [path.name for path in scripts if f"`{path.name}" not in engine] == []
    shown = "".join(page.read_text() for page in PAGES)
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.stat().st_size < 250_000
        assert f"images/{picture.name})" in shown


def test_example_of_a_new_property_and_the_layers_in_the_guide_are_valid(tmp_path):
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    (tmp_path / "own.yaml").write_text(*_blocks(guide, "yaml"))
    assert load_catalog(tmp_path / "own.yaml").property("debye_temperature").unit == "K"
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    expected = [set(re.findall(r"\w+", layer)) for layer in reversed(contract["layers"])]
    (line,) = [line for block in _blocks(guide, "text") for line in block.splitlines() if "→" in line]
    assert [set(re.findall(r"\w+", layer)) for layer in line.split("→")] == expected


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-b", "html"]
    command += [str(ROOT / "docs"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_site_holds_every_page_and_loads_nothing_from_another_host(site):
    found = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]
    pages = [p for p in found if "_build" not in p.parts]
    for page in pages:
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file()
    loaded = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^>]*>""")
    for page in site.rglob("*.html"):
        assert [tag for tag in loaded.findall(page.read_text()) if "canonical" not in tag] == [], page


def _article(site, page):
    """What a reader sees of a page's article, with single spaces."""
    html_text = (site / page).read_text(encoding="utf-8")
    article = re.search(r"<article.*?</article>", html_text, flags=re.DOTALL)
    assert article
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", article[0])).split())


def test_rest_reference_has_every_operation_and_every_field_with_its_meaning(site):
    page, document = _article(site, "reference/rest.html"), rest.full_document()
    for method, path, operation in rest.operations(document):
        assert f"{method} {path}" in page
        content = operation["responses"]["200"]["content"].get("application/json")
        if content is None:
            continue
        for name, told in rest.answer_fields(document, content["schema"]):
            assert name in page
            assert told or name == "status", f"{method} {path}: nobody says what {name} is"


def _leaves(command, words="crossprop"):
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from _leaves(child, f"{words} {name}")
    if not children:
        yield words, command


def test_command_reference_has_every_command_with_every_option(site):
    page = _article(site, "reference/cli.html")
    known = list(_leaves(typer.main.get_command(app)))
    assert len(known) > 10
    for words, command in known:
        assert f"$ {words} " in page
        part = page.split(f"$ {words} ", 1)[1].partition(" $ crossprop ")[0]
        for parameter in command.params:
            name = parameter.opts[0]
            assert re.search(rf"(?<![\w-]){name}(?:\.\.\.|[ :,])", part), f"{words} {name}"
            assert parameter.help, f"{words}: {name} has no meaning"


def test_every_key_of_the_configuration_is_on_the_page(site):
    page = _article(site, "reference/configuration.html")
    for model, places in configuration.places(Params):
        assert (", ".join(places) if places != [""] else "(top level)") in page
        for name, holds, _, meaning in configuration.rows(model):
            assert f"{name} {holds}" in page, name
            assert meaning, name


def test_configuration_page_names_every_environment_variable_and_folder_that_is_read():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'"(CROSSPROP_[A-Z_]+)"', text)}
    assert read
    told = set(re.findall(r"^\| `(CROSSPROP_[A-Z_]+)` \|", page, flags=re.MULTILINE))
    assert told == read
    folders = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    assert set(re.findall(r"^\| `conf/(\w+)/` \|", page, flags=re.MULTILINE)) == folders
