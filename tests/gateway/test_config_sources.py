"""Where values come from: files, references, overrides, mappings, and the environment alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_llm.gateway.config import Configuration, ConfigurationProblems, Secret, load
from asgi_llm.providers.compatible import COMPATIBLE

FILE = """
server: {host: 127.0.0.1, port: 4000}
providers:
  my-openai: {type: openai, api_key: sk-1, base_url: "http://127.0.0.1:1/v1"}
  echo: {type: echo}
models:
  fast: {targets: [{provider: echo, model: echo}]}
stack:
  - access_log
"""


def read(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Configuration:
    """The configuration in a file with ``text``."""
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    return load(file, environ=environ or {}).configuration


def model_name(tmp_path: Path, written: str, environ: dict[str, str]) -> str:
    """What ``written`` is after interpolation, at a place that takes any text."""
    text = "{providers: {e: {type: echo}}, models: {m: {targets: [{provider: e, model: %s}]}}}"
    return read(tmp_path, text % written, environ).models["m"].targets[0].model


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("${NAME}", "value"),
        ("'${NAME}'", "value"),
        ('"${NAME}"', "value"),
        ("a-${NAME}-b", "a-value-b"),
        ("${NAME}${NAME}", "valuevalue"),
        ("${EMPTY:-other}", "other"),
        ("${MISSING:-other}", "other"),
        ("${NAME:-other}", "value"),
        ("${MISSING:-a, b: [c] #d}", "a, b: [c] #d"),
        ("${MISSING:-http://x}", "http://x"),
        ("$${NAME}", "${NAME}"),
        ("$$", "$"),
        ("$$$${NAME}", "$${NAME}"),
        ("$$${NAME}", "$value"),
        ("$NAME", "$NAME"),
        ("cost$5", "cost$5"),
        ("${YAML}", "{a: [b"),
        ("${LINES}", "a\nb: c"),
        ("${REFERENCE}", "${NAME}"),
        ("4.10", "4.10"),
        ("no", "no"),
        ("0x10", "0x10"),
    ],
)
def test_interpolation(tmp_path: Path, written: str, expected: str) -> None:
    """A reference is replaced by text, whatever that holds, in any kind of scalar; once."""
    environ = {
        "NAME": "value",
        "EMPTY": "",
        "YAML": "{a: [b",
        "LINES": "a\nb: c",
        "REFERENCE": "${NAME}",
    }
    assert model_name(tmp_path, written, environ) == expected


def test_a_reference_in_a_comment_is_not_looked_up(tmp_path: Path) -> None:
    """What is commented out may name variables that are not set."""
    assert read(tmp_path, FILE + "# api_key: ${MISSING}\n").server.port == 4000


def test_a_reference_takes_the_type_of_its_place(tmp_path: Path) -> None:
    """Numbers and booleans may come from variables."""
    text = "server: {port: ${PORT}, docs: ${DOCS}, keep_alive_seconds: ${MISSING:-5}}\n"
    server = read(
        tmp_path, text + "providers: {e: {type: echo}}", {"PORT": "8080", "DOCS": "false"}
    ).server
    assert (server.port, server.docs, server.keep_alive_seconds) == (8080, False, 5)


def test_an_empty_reference_is_null(tmp_path: Path) -> None:
    """``proxy: ${HTTPS_PROXY:-}`` is no proxy where the variable is not set."""
    text = "providers: {v: {type: vllm, proxy: ${HTTPS_PROXY:-}}}"
    assert getattr(read(tmp_path, text).providers["v"], "proxy", 0) is None


def test_a_section_with_nothing_in_it_is_empty(tmp_path: Path) -> None:
    """A key whose lines are all commented out is no error."""
    text = "providers: {e: {type: echo}}\nserver:\nmodels:\nstack:\n  # - cors: {}\n"
    configuration = read(tmp_path, text)
    assert (configuration.models, configuration.stack) == ({}, ())
    assert configuration.server.port == 4000


def test_merge_keys_and_anchors(tmp_path: Path) -> None:
    """Sections may share defaults; what is written in place wins."""
    text = """
    providers:
      a: &defaults {type: echo, chunk_delay_seconds: 1}
      b: {<<: *defaults, chunk_delay_seconds: 2}
      c: {<<: [*defaults]}
    """
    providers = read(tmp_path, text).providers
    delays = [getattr(provider, "chunk_delay_seconds", None) for provider in providers.values()]
    assert delays == [1.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ASGI_LLM__SERVER__PORT", "5000", ("server.port", 5000)),
        ("ASGI_LLM__server__port", "5000", ("server.port", 5000)),
        ("ASGI_LLM__SERVER__DOCS", "off", ("server.docs", False)),
        ("ASGI_LLM__SERVER__TIMEOUTS__IDLE_SECONDS", "1.5", ("server.timeouts.idle_seconds", 1.5)),
        ("ASGI_LLM__SERVER__TIMEOUTS__IDLE_SECONDS", "", ("server.timeouts.idle_seconds", None)),
        (
            "ASGI_LLM__SERVER__TRUSTED_PROXIES__0",
            "10.0.0.1",
            ("server.trusted_proxies.0", "10.0.0.1"),
        ),
        (
            "ASGI_LLM__PROVIDERS__MY_OPENAI__BASE_URL",
            "http://127.0.0.1:2",
            ("providers.my-openai.base_url", "http://127.0.0.1:2"),
        ),
        ("ASGI_LLM__PROVIDERS__NEW__TYPE", "echo", ("providers.new.type", "echo")),
        ("ASGI_LLM__MODELS__FAST__TARGETS__0__MODEL", "x", ("models.fast.targets.0.model", "x")),
    ],
)
def test_overrides(tmp_path: Path, variable: str, value: str, expected: tuple[str, object]) -> None:
    """A variable replaces the one key that its name spells, or adds it."""
    if variable.endswith("PROXIES__0"):
        text = FILE.replace("port: 4000", "trusted_proxies: []")
    else:
        text = FILE
    found: object = read(tmp_path, text, {variable: value})
    path, wanted = expected
    for part in path.split("."):
        if isinstance(found, dict):
            found = found[part]
        elif isinstance(found, tuple):
            found = found[int(part)]
        else:
            found = getattr(found, part)
    assert found == wanted


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("ASGI_LLM__SERVER__PRT", "server.prt: unknown key, did you mean port?"),
        (
            "ASGI_LLM__SERVER__PORT",
            "server.port: expected a whole number from 0 to 65535, got another value",
        ),
        ("ASGI_LLM__SERVER__PORT__X", "server.port is a single value, with nothing inside"),
        ("ASGI_LLM__STACK__CORS", "stack is a list of 1: expected an index, got cors"),
        ("ASGI_LLM__STACK__2", "stack is a list of 1: expected an index, got 2"),
        ("ASGI_LLM__", "expected names between double underscores"),
    ],
)
def test_a_wrong_override_names_its_variable(tmp_path: Path, variable: str, expected: str) -> None:
    """The message begins with the variable, where a file's begins with its name."""
    with pytest.raises(ConfigurationProblems) as caught:
        read(tmp_path, FILE, {variable: "canary"})
    assert caught.value.message == f"{variable}: {expected}"


def test_an_override_of_a_shared_part_changes_one_place(tmp_path: Path) -> None:
    """What an alias stands for elsewhere stays as it is written."""
    text = "providers:\n  a: &x {type: echo, chunk_delay_seconds: 1}\n  b: *x\n"
    providers = read(tmp_path, text, {"ASGI_LLM__PROVIDERS__B__CHUNK_DELAY_SECONDS": "2"}).providers
    delays = [getattr(provider, "chunk_delay_seconds", None) for provider in providers.values()]
    assert delays == [1.0, 2.0]


def test_a_mapping_is_taken_as_it_is() -> None:
    """Neither references nor overrides apply to what a program hands over."""
    mapping = {
        "providers": {"echo": {"type": "echo"}},
        "models": {"m": {"targets": [{"provider": "echo", "model": "${NAME}"}]}},
    }
    loaded = load(mapping, environ={"NAME": "x", "ASGI_LLM__SERVER__PORT": "5"})
    assert loaded.configuration.models["m"].targets[0].model == "${NAME}"
    assert (loaded.configuration.server.port, loaded.source) == (4000, None)


def test_the_variable_names_the_file(tmp_path: Path) -> None:
    """Without a source the file is the one that ASGI_LLM_CONFIG names."""
    file = tmp_path / "other.yaml"
    file.write_text(FILE)
    loaded = load(environ={"ASGI_LLM_CONFIG": str(file)})
    assert (loaded.source, loaded.discovered) == (str(file), False)


def test_with_no_file_there_is_echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty environment still has a provider to try."""
    monkeypatch.chdir(tmp_path)
    loaded = load(environ={})
    assert list(loaded.configuration.providers) == ["echo"]
    assert (loaded.source, loaded.discovered, loaded.notes) == (None, True, ())


def test_the_file_in_the_directory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asgi-llm.yaml in the current directory is found by itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asgi-llm.yaml").write_text(FILE)
    assert load(environ={}).source == "asgi-llm.yaml"


def keys(environ: dict[str, str]) -> dict[str, str | None]:
    """Provider name to key, as found in ``environ`` alone."""
    providers = load({"providers": {"echo": {"type": "echo"}}}).configuration.providers
    assert list(providers) == ["echo"]
    found = load(environ={**environ, "ASGI_LLM_CONFIG": ""}).configuration.providers
    return {
        name: provider.api_key and provider.api_key.reveal()
        for name, provider in found.items()
        if hasattr(provider, "api_key")
    }


def test_providers_are_found_by_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each well-known variable adds its provider, with that key."""
    monkeypatch.chdir(tmp_path)
    variables = {
        "openai": "OPENAI_API_KEY",
        "anthropic": "ANTHROPIC_API_KEY",
        "gemini": "GEMINI_API_KEY",
        "mistral": "MISTRAL_API_KEY",
        "cohere": "COHERE_API_KEY",
        "voyage": "VOYAGE_API_KEY",
        "jina": "JINA_API_KEY",
    }
    variables |= {
        name: row.key_variable
        for name, row in COMPATIBLE.items()
        if row.key_variable and row.base_url and row.key_variable not in variables.values()
    }
    # The key of a provider with a format of its own brings that one and no other.
    assert not {"gemini_openai", "cohere_openai", "mistral_openai"} & variables.keys()
    del variables["github"]
    environ = {variable: f"key-of-{name}" for name, variable in variables.items()}
    assert keys(environ) == {name: f"key-of-{name}" for name in variables}


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("gemini", "GOOGLE_API_KEY", "GEMINI_API_KEY"),
        ("cohere", "CO_API_KEY", "COHERE_API_KEY"),
    ],
)
def test_the_first_of_two_variables_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: str, second: str
) -> None:
    """As in the provider's own tools; an empty one is not set."""
    monkeypatch.chdir(tmp_path)
    assert keys({first: "a", second: "b"}) == {name: "a"}
    assert keys({first: "", second: "b"}) == {name: "b"}


def test_bedrock_needs_a_region_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key alone is told, not used; keys of all of AWS are not even looked at."""
    monkeypatch.chdir(tmp_path)
    key = {"AWS_BEARER_TOKEN_BEDROCK": "k"}
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        found = load(environ={**key, variable: "eu-west-1"}).configuration.providers["bedrock"]
        assert (getattr(found, "api_key", 0), getattr(found, "region", 0)) == (
            Secret("k"),
            "eu-west-1",
        )
    assert load(environ=key).notes == (
        "bedrock is left out: AWS_BEARER_TOKEN_BEDROCK is set, AWS_REGION not.",
    )
    general = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"}
    assert keys(general) == {}


def test_vertex_needs_its_switch_and_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project alone means nothing: it is set for much else."""
    monkeypatch.chdir(tmp_path)
    project = {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "europe-west4"}
    assert keys(project) == {}
    switch = {"GOOGLE_GENAI_USE_VERTEXAI": "True"}
    found = load(environ={**project, **switch}).configuration.providers["vertex"]
    assert (getattr(found, "project", 0), getattr(found, "location", 0)) == ("p", "europe-west4")
    assert load(environ=switch).notes == (
        "vertex is left out: GOOGLE_GENAI_USE_VERTEXAI is set, GOOGLE_CLOUD_PROJECT not.",
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":5000", "http://127.0.0.1:5000"),
        ("box:5000", "http://box:5000"),
        ("http://box", "http://box"),
        ("http://box:80/", "http://box:80"),
        ("https://ollama.com", "https://ollama.com"),
    ],
)
def test_ollama_is_where_its_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, expected: str
) -> None:
    """In every form that its own tools take; the key of its cloud goes to its cloud only."""
    monkeypatch.chdir(tmp_path)
    environ = {"OLLAMA_HOST": host, "OLLAMA_API_KEY": "k"}
    found = load(environ=environ).configuration.providers["ollama"]
    key = Secret("k") if host == "https://ollama.com" else None
    assert (getattr(found, "base_url", 0), getattr(found, "api_key", 0)) == (expected, key)
    assert keys({"OLLAMA_API_KEY": "k"}) == {}


def test_other_options_come_from_their_variables_too(tmp_path: Path) -> None:
    """Where a file leaves them out."""
    text = "providers: {a: {type: bedrock}, b: {type: bedrock, region: us-west-2}}"
    providers = read(tmp_path, text, {"AWS_REGION": "eu-west-1"}).providers
    assert [getattr(one, "region", 0) for one in providers.values()] == ["eu-west-1", "us-west-2"]


def test_credentials_of_the_file_go_before_a_key_of_the_environment(tmp_path: Path) -> None:
    """An account that is named is the one that is used."""
    text = """
    providers:
      a: {type: bedrock, access_key_id: i, secret_access_key: s}
      b: {type: bedrock, profile: p}
      c: {type: bedrock}
    """
    environ = {"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_REGION": "us-east-1"}
    providers = read(tmp_path, text, environ).providers
    keys_of = [getattr(one, "api_key", 0) for one in providers.values()]
    assert keys_of == [None, None, Secret("k")]


def test_values_of_any_kind_are_read_as_in_yaml(tmp_path: Path) -> None:
    """Without quotes they are numbers and booleans where they look so, in quotes they are texts."""
    text = """
    providers:
      a:
        type: ollama
        options: {num_ctx: 8192, temperature: 0.5, f16_kv: true, a: "8192", b: x, c: -1, d: 1e3,
                  e: ~, stop: [a, 1], deep: {n: 1}, v: ${N}, p: .}
    """
    options = getattr(read(tmp_path, text, {"N": "7"}).providers["a"], "options", 0)
    assert options == {
        "num_ctx": 8192,
        "temperature": 0.5,
        "f16_kv": True,
        "a": "8192",
        "b": "x",
        "c": -1,
        "d": 1000.0,
        "e": None,
        "stop": ["a", 1],
        "deep": {"n": 1},
        "v": 7,
        "p": ".",
    }


def test_a_general_token_is_not_taken_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GITHUB_TOKEN opens more than models, and is used only where a file says type: github."""
    monkeypatch.chdir(tmp_path)
    assert keys({"GITHUB_TOKEN": "t"}) == {}
    (tmp_path / "asgi-llm.yaml").write_text("providers: {gh: {type: github}}")
    assert keys({"GITHUB_TOKEN": "t"}) == {"gh": "t"}


def test_azure_needs_all_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key alone is told, not used."""
    monkeypatch.chdir(tmp_path)
    whole = {
        "AZURE_OPENAI_API_KEY": "k",
        "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com",
        "OPENAI_API_VERSION": "2024-10-21",
    }
    assert keys(whole) == {"azure": "k"}
    assert load(environ={"AZURE_OPENAI_API_KEY": "k"}).notes == (
        "azure is left out: AZURE_OPENAI_API_KEY is set, "
        "AZURE_OPENAI_ENDPOINT and OPENAI_API_VERSION not.",
    )


def test_a_well_known_key_goes_to_its_own_provider_only(tmp_path: Path) -> None:
    """With a base_url the key of the environment stays home."""
    text = "providers: {a: {type: openai, base_url: 'http://127.0.0.1:1'}, b: {type: openai}}"
    providers = read(tmp_path, text, {"OPENAI_API_KEY": "sk-1"}).providers
    keys_of = [getattr(one, "api_key", 0) for one in providers.values()]
    assert keys_of == [None, Secret("sk-1")]


def test_notes_tell_what_is_not_used(tmp_path: Path) -> None:
    """Further targets, strategies and fallbacks are accepted, and said to wait for a router."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "providers: {e: {type: echo}, o: {type: openai, api_key: k, base_url: 'http://10.0.0.1'}}\n"
        "models:\n"
        "  a:\n"
        "    strategy: weighted\n"
        "    targets: [{provider: e, model: x, weight: 2}, {provider: e, model: y}]\n"
        "    fallbacks: [b, e/z]\n"
        "  b: {targets: [{provider: e, model: x}]}\n"
    )
    assert [note.replace(str(file), "f") for note in load(file, environ={}).notes] == [
        "f:5:5: models.a.targets: not used without a layer router: the first target is called",
        "f:4:5: models.a.strategy: not used without a layer router: the first target is called",
        "f:6:5: models.a.fallbacks: not used without a layer router: the first target is called",
        "f:1:30: providers.o: the key goes over plain http, which anyone on the way can read",
    ]
