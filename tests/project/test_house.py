"""The rules of the house hold: who imports whom, what is generated, what is tracked."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement

import cyborg_infra
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import FIELDS

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "cyborg_infra").rglob("*.py"))
MODULES = [
    *PACKAGE,
    *(
        path
        for part in ("tests", "docs", "examples", "benchmarks")
        for path in sorted((ROOT / part).rglob("*.py"))
    ),
]
SCHEMAS = sorted((ROOT / "schemas").rglob("*.json"))
# What only a machine or a private registry would put into a file; a part of each is left out here, for this file's sake.
TRACES = re.compile(
    r"/(?:home|root|Users|work|private)/\w|/tmp/\w|\bpypi\.\w+\.(?!org\b)\w+|index-url", re.IGNORECASE
)


def name(path: object) -> str:
    return path.relative_to(ROOT).as_posix() if isinstance(path, Path) else ""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_import_contract_holds() -> None:
    ended = run(
        "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"
    )
    assert ended.returncode == 0, ended.stdout
    assert " 0 broken" in ended.stdout


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "error_codes.py"], ids=name)
def test_an_error_code_is_written_by_its_name(path: Path) -> None:
    with tokenize.open(path) as file:
        numbers = {
            token.string for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.NUMBER
        }
    assert numbers.isdisjoint(str(code) for code in vars(ErrorCode).values())


SETTING_READ = re.compile(r"(?<!self)(?<!sked)\.config(\.get\(|\[)")


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if path.is_relative_to(ROOT / "cyborg_infra") and path.name not in ("embedded.py", "constraints.py")
    ],
    ids=name,
)
def test_a_setting_of_a_resource_is_read_by_its_get(path: Path) -> None:
    """It knows the types and what an absent one means; `asked.config` of a constraint has them all."""
    assert not SETTING_READ.findall(path.read_text(encoding="utf-8"))


# What imports inside functions below the command line, and why.
LATE_IMPORTS = {
    "__init__.py": "the library is imported name by name",
    "__main__.py": "the garbage collector is told before anything is loaded",
    "export/yaml_text.py": "yaml: no other format needs it",
    "live/connection/login.py": "ssl, nkeys and tokens: most logins need none",
    "live/connection/replies.py": "jsonschema_rs: few answers are so long that compiling pays",
    "live/execute/permissions.py": "the strategies of replacing a consumer: most plans replace none",
    "manifest/notifications.py": "zoneinfo: most manifests have no quiet hours",
    "manifest/other_tools/nack.py": "yaml: no other tool's files need it",
    "manifest/saved_plan.py": "jsonschema: it says what is wrong with a damaged plan",
    "manifest/schema.py": "jsonschema: it says what is wrong with an invalid manifest",
    "manifest/suggest.py": "difflib: for what is misspelt",
    "manifest/yaml_source.py": "yaml: a manifest in JSON needs none",
    "model/key_pairs.py": "nkeys: to make keys alone",
    "operations/exports.py": "nats: most exports need no server",
    "operations/imports.py": "nats: what is read from files needs no server",
    "operations/manifest.py": "messages, a saved plan, the template of a manifest: `validate` needs none",
    "operations/operator_mode.py": "nats: to write claims needs no server",
    "operations/provision.py": "what carries a plan out: a plan that changes nothing needs none of it",
    "render/terminal/console.py": "rich: for a terminal alone",
    "render/terminal/layout.py": "rich: for a terminal alone",
    "render/terminal/progress.py": "rich: for a terminal alone",
}


def test_modules_import_at_their_top() -> None:
    """What a command does not need is not loaded for it: the command line, which decides that, may import where it likes."""
    late = {
        path.relative_to(ROOT / "cyborg_infra").as_posix()
        for path in PACKAGE
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(function))
    }
    assert {module for module in late if not module.startswith("cli/")} == LATE_IMPORTS.keys()


# Names that several modules have in public, and what each of them stands for. All others are one thing in one place.
SHARED_NAMES = {
    "commands, each in a module": ("Allowance", "COMMANDS", "EXAMPLES", "HELP", "command"),
    "formats of an export, each in a module": ("FILE", "SETTINGS", "write"),
    "forms of an output, by what is shown": ("applied", "checked", "data", "drift", "outcome", "problems", "text", "valid"),
    "the same thing on several floors": ("apply", "explain", "is_saved", "plan", "show", "status", "unlock"),
    "rules of a manifest and of what it comes to": ("RULES", "Rule"),
    "versions of what is written, each its own": ("SCHEMA_VERSION",),
    "the program, and its start by python -m": ("main",),
    "words of another tool or language": ("Block", "Format", "Member", "Permissions"),
}  # fmt: skip


def test_a_public_name_is_one_thing() -> None:
    """Where two things have one name, one of them gets another; what is named alike by design is listed above.

    An option is called as the command line calls it: the module of a command has it for itself.
    """
    places: dict[str, set[str]] = {}
    for path in PACKAGE:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for found in _defined(node):
                if not found.startswith("_") and not _is_option(node, path):
                    places.setdefault(found, set()).add(name(path))
    shared = {word for words in SHARED_NAMES.values() for word in words}
    assert {
        word: sorted(found) for word, found in places.items() if len(found) > 1 and word not in shared
    } == {}
    assert [word for word in shared if len(places.get(word, ())) < 2] == []


def _is_option(node: ast.stmt, path: Path) -> bool:
    value = node.value if isinstance(node, ast.Assign) else None
    return (
        "cli" in path.parts and isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Annotated"
    )


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=found)):
            return [found]
    return []


# What the package defines and does not use itself, and who does.
FOR_OTHERS = {
    "typer, which is shown it": ("format_options",),
    "PyYAML, which asks it": ("ignore_aliases",),
    "logging": ("emit",),
    "uvicorn": ("capture_signals", "startup", "wait_closed"),
    "tests and docs/generate.py, which go through the whole table": ("EVERY_LINT", "OWN_RULES"),
    "tests, which do without files": ("loads_naming",),
    "tests, which break requests": ("through",),
    "tests: an error of the server's that is known by its text": ("JSConsumerStoreFailedErrF",),
}


def test_whatever_is_defined_is_used() -> None:
    """Functions, classes, methods, constants and fields. The names of the library count as used: they are listed as texts."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE}
    templates = (ROOT / "cyborg_infra").rglob("*.html")
    used = {word for path in templates for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    for tree in trees.values():
        for node in ast.walk(tree):
            match node:
                case (
                    ast.Name(id=word, ctx=ast.Load()) | ast.Attribute(attr=word) | ast.keyword(arg=str(word))
                ):
                    used.add(word)
                case ast.MatchClass(kwd_attrs=words):
                    used.update(words)
                case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.]+", text):
                    used.update(text.split("."))
    unused = {
        word
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef)
        for statement in node.body
        for word in _defined(statement)
        if word not in used and not word.startswith("__")
    }
    assert unused == {word for words in FOR_OTHERS.values() for word in words}


def test_what_is_generated_is_up_to_date() -> None:
    ended = run("docs/generate.py", "--check")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":")) or len(docstring.splitlines()) > 1


RAISED = re.compile(r"\b[Rr]aises? ([A-Z]\w+(?:(?:, | and | or )[A-Z]\w+)*)")


def test_an_exception_that_a_docstring_names_is_one() -> None:
    """It may have got another name since."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    assert [
        f"{name(path)}: {word}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, documented)
        for found in RAISED.finditer(ast.get_docstring(node) or "")
        for word in re.findall(r"[A-Z]\w+", found[1])
        if word not in used
    ] == []


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_every_schema_is_valid_and_describes_itself(path: Path) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    assert {"$id", "title", "description"} <= schema.keys()


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_every_schema_is_used(path: Path) -> None:
    """By `manifest`, or by a test that holds an output against it."""
    word = path.name.removesuffix(".schema.json")
    sources = "".join(module.read_text(encoding="utf-8") for module in MODULES if module != Path(__file__))
    assert path.name in sources or f'assert_fits("{word}"' in sources or f'"{word}"' in sources


def test_nothing_tracked_tells_of_a_machine() -> None:
    """No absolute path of a developer, no registry but the public one."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    if tracked.returncode != 0:
        pytest.fail("this test needs the git checkout")
    found = []
    for entry in filter(None, tracked.stdout.split("\0")):
        path = ROOT / entry
        if path.is_file() and path != Path(__file__):
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{entry}: {match[0]}" for match in TRACES.finditer(text)]
    assert found == []


def test_every_command_is_in_the_readme() -> None:
    from cyborg_infra.cli.app import COMMANDS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [word for word in COMMANDS if f"`{word}`" not in readme] == []


def test_every_decision_has_a_number_of_its_own_and_a_line_in_the_index() -> None:
    """A page that is new takes the next number and gets its line: those who write at the same time take the same one."""
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    titles = [page.read_text(encoding="utf-8").split("\n", 1)[0] for page in pages]
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert [title for number, title in enumerate(titles, 1) if not title.startswith(f"# {number}. ")] == []
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in index.splitlines() if line.startswith("| [")]
    assert [row[:2] for row in rows] == [
        [f"| [{page.name[:4]}]({page.name})", title.split(". ", 1)[1]]
        for page, title in zip(pages, titles, strict=True)
    ]
    assert [row for row in rows if not row[2] or not re.fullmatch(r"\d{4}-\d\d-\d\d \|", row[3])] == []


@pytest.mark.parametrize("guide", ["docs/architecture.md", "docs/glossary.md", "CONTRIBUTING.md"])
def test_every_path_and_symbol_that_a_guide_names_exists(guide: str) -> None:
    """In backticks: a path of the repository or of the package, and the names that follow a module after a colon."""
    text = (ROOT / guide).read_text(encoding="utf-8")
    paths = [
        word for word in re.findall(r"`([^`\s]+)`", text) if re.match(r"[a-z./_-]+(/|\.(py|toml|md)$)", word)
    ]
    assert [path for path in paths if located(path) is None] == []
    symbols = [
        (path, symbol)
        for path, symbols in re.findall(r"`([^`\s]+\.py)`: ((?:`\w+`(?:, )?)+)", text)
        for symbol in re.findall(r"\w+", symbols)
    ]
    assert [found for found in symbols if not defines(*found)] == []


def test_every_package_has_its_paragraph() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [
        path.parent.relative_to(ROOT / "cyborg_infra").as_posix()
        for path in PACKAGE
        if path.name == "__init__.py" and path.parent.name != "cyborg_infra"
    ]
    assert [package for package in packages if f"`{package}/`" not in text] == []


def located(path: str) -> Path | None:
    """Return the file or folder that a guide means: below the repository, or below the package."""
    return next((place for root in (ROOT, ROOT / "cyborg_infra") if (place := root / path).exists()), None)


def defines(path: str, symbol: str) -> bool:
    module = located(path)
    return module is not None and symbol in {
        name.id if isinstance(name, ast.Name) else name.name
        for node in ast.parse(module.read_text(encoding="utf-8")).body
        for name in (
            [node]
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            else node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        if isinstance(name, ast.Name | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }


PATCHED = {
    "account.ask",  # what the test itself wrote
    "change.wait_until_idle",
    "consumer_limits.fit_placeholders",  # an earlier version had none of these
    "consumer_limits.lift_limits",
    "consumer_position.LARGEST_JOURNAL",  # limits that are too large to reach
    "counting.MAX_READ",
    "draining.position_obstacle",
    "EmbeddedServer.start",
    "files.IDLE_TIMEOUT_SECONDS",
    "idempotent.delete",
    "files.WRITER_TIMEOUT_SECONDS",
    "files.fsync",
    "JetStream.snapshot",
    "JetStream.subscribe",
    "lease.clock_seconds",
    "messages.MAX_MESSAGES",
    "paging.MAX_ROWS",
    "paging.PAGE_ROWS",
    "perform.wait_until_replicated",
    "placeholder.UNLIMITED",
    "routes.KEEPALIVE_SECONDS",
    "routes.MAX_LISTENERS",
    "routes.render_page",  # counted
    "rehearsal.plan_rehearsals",  # what no rehearsal has found
    "steps.copy_max_bytes",
    "steps.wait_until_nearly_complete",
    "suggest.MAX_COMPARISONS",
    "difflib.get_close_matches",  # of the standard library
    "os.open",
    "secrets.token_hex",
    "server.ASK_SECONDS",
    "server.MAX_CONNECTIONS",
    "sys.executable",
    "sys.stdout",
}
"""What tests replace. For requests and waits there are `live.interception` and `live.timing`: see `tests/support/faults.py`."""


def test_tests_replace_nothing_but_what_is_listed() -> None:
    """No private name is: a test that knows one breaks when the code is only written otherwise."""
    replaced = set[str]()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.name == "faults.py" and path.parent.name == "support":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setattr":
                where, what = (ast.unparse(given) for given in node.args[:2])
                dotted = where if where.startswith("'") else f"{where}.{what}"
                replaced.add(".".join(dotted.replace("'", "").split(".")[-2:]))
    assert replaced == PATCHED
    assert not [name for name in replaced if "._" in name]


def test_a_property_may_take_as_long_as_it_takes() -> None:
    """Without settings of its own, hypothesis fails an example that takes 200 ms, as any may on a busy machine."""
    texts = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py")}
    assert [
        path.relative_to(ROOT).as_posix()
        for path, text in texts.items()
        if "\n@given(" in text and "draws(" not in text and "settings(" not in text
    ] == []


def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert [
        target for target in phony.split() if not re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
    ] == []


def test_the_locks_pin_every_dependency_within_its_range() -> None:
    """Otherwise `make setup` would bring another version than `pyproject.toml` admits: `make lock` writes them anew."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = settings["project"]["dependencies"]
    extras, groups = settings["project"]["optional-dependencies"], settings["dependency-groups"]
    for file, wanted in (
        ("requirements-dev.lock", [*needed, *extras["server"], *groups["build"], *groups["dev"]]),
        ("deploy/requirements.lock", [*needed, *extras["monitor"]]),
        ("deploy/build.lock", groups["build"]),
    ):
        lock = (ROOT / file).read_text(encoding="utf-8")
        pinned = dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==([\w.]+)", lock, re.MULTILINE))
        requirements = [Requirement(line) for line in wanted if isinstance(line, str)]
        assert [
            f"{file}: {each}"
            for each in requirements
            if each.name not in pinned or pinned[each.name] not in each.specifier
        ] == []


def test_the_version_stands_in_one_place() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["hatch"]["version"]["path"] == "cyborg_infra/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", cyborg_infra.__version__)


# What may name the command line's options and commands outside of `cli`, and why.
NAMES_COMMANDS = {
    "render": "what the command line prints",
    "export/": "command lines of other tools",
    "live/embedded.py": "nats-server's options",
    "live/verify/sandbox.py": "the task that it publishes says who does",
    "model/fields.py": "the `nats` CLI's options",
    "manifest/template.py": "the comments of a manifest, in which people read what to type next",
    "operations/imports.py": "the same",
}


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_no_text_below_the_command_line_names_its_options_or_commands(path: Path) -> None:
    """A text that has to is a wording (`model/wording.py`), of which `render/command_line.py` makes what is typed."""
    from cyborg_infra.cli.app import COMMANDS

    inside = path.relative_to(ROOT / "cyborg_infra").as_posix()
    if inside.startswith(("cli/", *NAMES_COMMANDS)):
        return
    typed = re.compile(rf"(?<![\w-])--[a-z]|cyborg-infra (?:{'|'.join(COMMANDS)})\b")
    assert [text for text in texts(ast.parse(path.read_text(encoding="utf-8"))) if typed.search(text)] == []


def test_an_option_or_command_that_a_text_names_can_be_typed() -> None:
    """A wording has the name of a parameter: with another one, people would be told to type what is not there."""
    import typer

    from cyborg_infra.cli import app
    from cyborg_infra.model.wording import Command, Option, worded
    from cyborg_infra.render.command_line import spoken

    references = {"Option": Option, "Command": Command}
    named = {
        spoken(worded("{}", references[call.func.id](call.args[0].value)))
        for path in PACKAGE
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in references
        if isinstance(call.args[0], ast.Constant)
    }
    line = typer.main.get_command(app.typer_app(app.COMMANDS))
    typed = {f"cyborg-infra {command}" for command in app.names()} | set(flags(line))
    assert {"--allow", "cyborg-infra plan"} <= named
    assert named <= typed


def flags(command: Any) -> Iterator[str]:
    """Yield every option of a command, and of those below it."""
    for option in command.params:
        yield from (*option.opts, *option.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from flags(inner)


def texts(tree: ast.AST) -> list[str]:
    """Return the strings of a module without its docstrings."""
    notes = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(body := getattr(node, "body", ()), list)
        for statement in body
        if isinstance(statement, ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes
    ]


# Words of other tools and of the server that a function here happens to be called like as well.
OTHERS_WORDS = {"consumer_name", "inbox_prefix", "max_payload", "publish_to"}


def test_no_text_has_the_name_of_a_function_in_it() -> None:
    """As one would that was renamed wherever its name stood. A field of JetStream is called as it is written."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE}
    functions = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    fields = {field for table in FIELDS.values() for field in table}
    assert [
        f"{name(path)}: {word} in {text!r}"
        for path, tree in trees.items()
        for text in texts(tree)
        if " " in text
        for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text)
        if word in functions - fields - OTHERS_WORDS
    ] == []


def test_the_changelog_has_no_section_that_the_tool_that_cuts_a_release_refuses() -> None:
    settings = yaml.safe_load((ROOT / ".kacl.yml").read_text(encoding="utf-8"))["kacl"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert set(re.findall("^### (.*)", changelog, re.MULTILINE)) <= set(settings["allowed_version_sections"])
