"""Configuration: where it is read from, what is in force, and what is refused with its line."""

from pathlib import Path

import pytest

from promptops.core.errors import DataError, RefusedError
from promptops.core.money import Price
from promptops.project.config import Config, ModelConfig, check_host, find_root, load_config, resolve_model
from promptops.project.tree import WorkTree

SMALL = 'provider = "openai"\nmodel = "m-2024-07-18"\nbase_url = "https://api.openai.com/v1"\n'


def config_of(root: Path, environment: dict[str, str] | None = None) -> Config:
    return load_config(WorkTree(root), environment or {})


def problems_of(root: Path, text: str, name: str = "promptops.toml", **environment: str) -> list[str]:
    (root / name).write_text(text, "utf-8")
    with pytest.raises(DataError) as caught:
        config_of(root, environment)
    return [str(problem) for problem in caught.value.problems]


def test_without_a_table_the_defaults_are_in_force(tmp_path: Path):
    """A prompts/ folder alone is a project; a foreign pyproject.toml does not disturb it."""
    (tmp_path / "pyproject.toml").write_text("tool = 3\n", "utf-8")

    assert Config(default_model="local", max_case_bytes=1_000_000, concurrency=8) == config_of(tmp_path)


@pytest.mark.parametrize(("name", "prefix"), [("promptops.toml", ""), ("pyproject.toml", "tool.promptops.")])
def test_the_same_tables_in_either_file(tmp_path: Path, name: str, prefix: str):
    """promptops.toml holds the tables of pyproject.toml without their prefix; money is read as integers."""
    head = f"[{prefix.rstrip('.')}]\n" if prefix else ""
    (tmp_path / name).write_text(
        f'{head}concurrency = 3\n[{prefix}models.small]\n{SMALL}api_key_env = "KEY"\ninput_usd_per_mtok = "0.15"\ntimeout_s = 5\n',
        "utf-8",
    )

    assert {
        "small": ModelConfig(alias="small", provider="openai", model="m-2024-07-18", base_url="https://api.openai.com/v1",
                             api_key_env="KEY", price=Price(input_nanousd_per_mtok=150_000_000), timeout_s=5),
    } == config_of(tmp_path).models  # fmt: skip
    assert 3 == config_of(tmp_path).concurrency


def test_both_files_are_an_error(tmp_path: Path):
    """Two places could contradict each other, and the reader would see one."""
    (tmp_path / "pyproject.toml").write_text("[tool.promptops]\n", "utf-8")

    assert [
        "promptops.toml and [tool.promptops] in pyproject.toml, only one of them can be in force; move everything into one"
    ] == problems_of(tmp_path, "")


def test_the_environment_precedes_the_file(tmp_path: Path):
    """PROMPTOPS_* is nearer to the caller than the project; an empty variable is none."""
    (tmp_path / "promptops.toml").write_text(
        f'default_model = "local:echo"\nconcurrency = 3\n[models.small]\n{SMALL}', "utf-8"
    )
    both = config_of(tmp_path, {"PROMPTOPS_DEFAULT_MODEL": "small", "PROMPTOPS_CONCURRENCY": "9"})
    none = config_of(tmp_path, {"PROMPTOPS_DEFAULT_MODEL": "", "PROMPTOPS_CONCURRENCY": ""})

    assert [("small", 9), ("local:echo", 3)] == [(item.default_model, item.concurrency) for item in (both, none)]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PROMPTOPS_CONCURRENCY": "0"}, "PROMPTOPS_CONCURRENCY is '0'; set a number from 1 to 1024"),
        ({"PROMPTOPS_CONCURRENCY": "many"}, "PROMPTOPS_CONCURRENCY is 'many'; set a number from 1 to 1024"),
        (
            {"PROMPTOPS_DEFAULT_MODEL": "smal"},
            "PROMPTOPS_DEFAULT_MODEL: default_model 'smal' is not a model; did you mean 'small'?",
        ),
        (
            {"PROMPTOPS_DEFAULT_MODEL": "localhost"},
            "PROMPTOPS_DEFAULT_MODEL: default_model 'localhost' is not a model; did you mean 'local'?",
        ),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, environment: dict[str, str], expected: str):
    """The problem is in the variable, not in a line of the file."""
    assert [expected] == problems_of(tmp_path, f"[models.small]\n{SMALL}", **environment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("concurency = 3", "promptops.toml:1: unknown key 'concurency'; did you mean 'concurrency'?"),
        ("\n\n\nconcurency = 3", "promptops.toml:4: unknown key 'concurency'; did you mean 'concurrency'?"),
        ("concurrency = 1\n\n\nconcurrency = 2", "promptops.toml:4: TOML syntax error"),
        ("concurrency = 2024-01-31", "promptops.toml:1: `concurrency` '2024-01-31' is not of type \"integer\""),
        ("concurrency = true", "promptops.toml:1: `concurrency` 'True' is not of type \"integer\""),
        (
            "[models.small]\n" + SMALL + "\n\ntimout_s = 3",
            "promptops.toml:7: unknown key 'timout_s'; did you mean 'timeout_s'?",
        ),
        (
            f"[models.a]\n{SMALL}timeout_s = 1\n[models.b]\n{SMALL}timeout_s = nan",
            "promptops.toml:10: `models.b.timeout_s` 'nan' is not of type \"number\"",
        ),
        (
            '[models.small]\nprovider = "opnai"\nmodel = "m"',
            "promptops.toml:2: `models.small.provider` 'opnai' is not known; did you mean 'openai'?",
        ),
        (
            '[models.small]\nprovider = "openai"\nmodel = "m"',
            "promptops.toml:1: model 'small' has no base_url; state the root of the API",
        ),
        (
            f"[models.local]\n{SMALL}",
            "promptops.toml:1: a model cannot be called `local`; choose another alias",
        ),
        (
            f'[models.small]\n{SMALL}input_usd_per_mtok = "99999999"',
            "promptops.toml:1: price of model 'small': '99999999' is not between 0 and 1000000",
        ),
        ('default_model = "smal"', "promptops.toml:1: default_model 'smal' is not a model; known: local"),
    ],
)
def test_a_problem_has_its_line_and_a_suggestion(tmp_path: Path, text: str, expected: str):
    """What is wrong, where, and what was probably meant."""
    (problem,) = problems_of(tmp_path, text)

    assert problem.startswith(expected)


def test_a_line_in_pyproject_is_that_of_our_table(tmp_path: Path):
    """The same key in another tool's table is not pointed at."""
    text = '[project]\nconcurency = 1\n\n[tool.promptops]\ndefault_model = "local"\nconcurency = 2\n'

    assert ["pyproject.toml:6: unknown key 'concurency'; did you mean 'concurrency'?"] == problems_of(
        tmp_path, text, "pyproject.toml"
    )


def test_every_problem_is_listed_at_once(tmp_path: Path):
    """One round of editing is enough."""
    found = problems_of(tmp_path, f'concurrency = 0\nmax_case_byte = 1\n[models.small]\n{SMALL}transport = "htp"\n')

    assert ["promptops.toml:1", "promptops.toml:2", "promptops.toml:7"] == sorted(
        problem.partition(": ")[0] for problem in found
    )


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "{}"',
        'api_key_env = "{}"',
        'model = "{}"',
        'azure_token = "{}"',
    ],
)
def test_L12_an_inline_secret_is_refused_and_masked(tmp_path: Path, line: str):
    """Wherever a key was pasted, the message names the line and shows three characters of it."""
    secret = "sk-" + "canary" * 5

    found = problems_of(
        tmp_path, f"[models.small]\n{SMALL}".replace('model = "m-2024-07-18"\n', "") + line.format(secret)
    )

    assert (True, False) == (
        "promptops.toml:4: " in found[0] and "(sk-…)" in found[0],
        any("canary" in item for item in found),
    )


def test_L12_a_key_without_a_known_shape_is_masked_where_a_name_belongs(tmp_path: Path):
    """Pasting the key itself into api_key_env is the likely mistake; an Azure key looks like nothing special."""
    (problem,) = problems_of(tmp_path, f'[models.small]\n{SMALL}api_key_env = "0123456789abcdef0123456789abcdef"\n')

    assert (
        "promptops.toml:5: `models.small.api_key_env` (012…) is not the name of an environment variable;"
        " put the key into a variable such as OPENAI_API_KEY and name that"
    ) == problem


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "unix:/run/x.sock"])
def test_L11_a_base_url_that_is_no_web_address_is_refused(tmp_path: Path, url: str):
    """A model's server is reached over HTTP; nothing on disk is."""
    (tmp_path / "promptops.toml").write_text(
        f"[models.small]\n{SMALL}".replace("https://api.openai.com/v1", url), "utf-8"
    )

    with pytest.raises(RefusedError):
        config_of(tmp_path)


def test_L11_a_configuration_linked_from_outside_is_refused(tmp_path: Path):
    """The file in force is one of the project's own."""
    (tmp_path / "outside.toml").write_text("", "utf-8")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "promptops.toml").symlink_to(tmp_path / "outside.toml")

    with pytest.raises(RefusedError):
        config_of(tmp_path / "project")


@pytest.mark.parametrize(
    ("url", "allowed", "accepted"),
    [
        ("https://api.openai.com/v1", "", True),
        ("https://mine.openai.azure.com/x", "", True),
        ("http://127.0.0.1:8080/v1", "", True),
        ("https://evil.example/v1", "", False),
        ("https://evil.example/v1", "a.example, evil.example", True),
        ("https://api.openai.com.evil.example/v1", "", False),
        ("http://api.openai.com/v1", "", False),
    ],
)
def test_a_key_goes_to_known_hosts_over_tls_only(url: str, allowed: str, accepted: bool):
    """A project cannot name a new host for a key; who owns the key can, in the environment."""
    model = ModelConfig(alias="m", provider="openai", model="m", base_url=url)
    try:
        check_host(model, {"PROMPTOPS_ALLOWED_HOSTS": allowed})
        found = True
    except RefusedError:
        found = False

    assert accepted == found


def test_a_model_is_found_by_alias_by_snapshot_or_as_a_local_one():
    """The three spellings a prompt may use; anything else gets a suggestion."""
    small = ModelConfig(alias="small", provider="openai", model="m-2024-07-18")
    config = Config(models={"small": small})

    assert [small, small, ModelConfig(alias="local:echo", provider="local", model="echo")] == [
        resolve_model(config, name) for name in ("small", "m-2024-07-18", "local:echo")
    ]
    with pytest.raises(DataError, match="unknown model 'smal'; did you mean 'small'"):
        resolve_model(config, "smal")


@pytest.mark.parametrize("mark", ["promptops.toml", "prompts/x", "pyproject.toml"])
def test_the_root_is_found_from_a_folder_below(tmp_path: Path, mark: str):
    """A command works anywhere in the project."""
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).write_text("[tool.promptops]\n", "utf-8")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    assert tmp_path == find_root(below)


def test_no_root_says_how_to_begin(tmp_path: Path):
    """An empty folder is not a project."""
    with pytest.raises(DataError, match="no promptops project here or above; run `promptops init`"):
        find_root(tmp_path)
