"""What is wrong with a file is told with its place, its path, and the nearest right name."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_llm.gateway.config import ConfigurationProblems, load

ECHO = "providers: {echo: {type: echo}}\n"


def problems(tmp_path: Path, text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    """The lines of the error for a file with ``text``, without the directory's name."""
    file = tmp_path / "gateway.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationProblems) as caught:
        load(file, environ=environ or {})
    return caught.value.message.replace(str(file), "gateway.yaml").split("\n")


CASES: dict[str, tuple[str | bytes, str]] = {
    "unknown key, with the nearest": (
        "providers:\n  openai:\n    type: openai\n    api_kye: sk-1\n    api_key: sk-2\n",
        "gateway.yaml:4:5: providers.openai.api_kye: unknown key, did you mean api_key?",
    ),
    "unknown key, none near": (
        "providers: {echo: {type: echo, zzz: 1}}\n",
        "gateway.yaml:1:32: providers.echo.zzz: unknown key; known are type, chunk_delay_seconds",
    ),
    "unknown section": (
        ECHO + "sever: {}\n",
        "gateway.yaml:2:1: sever: unknown key, did you mean server?",
    ),
    "storage": (
        ECHO + "storage: {redsi: null}\n",
        "gateway.yaml:2:11: storage.redsi: unknown key, did you mean redis?",
    ),
    "a layer of a later version": (
        ECHO + "stack:\n  - access_log\n  - prompt: {}\n",
        "gateway.yaml:4:5: stack[1].prompt: this version has no layer prompt; "
        "it has access_log, telemetry, auth, ",
    ),
    "a layer that is none": (
        ECHO + "stack: [{acces_log: {}}]\n",
        "gateway.yaml:2:10: stack[0].acces_log: unknown layer, did you mean access_log?",
    ),
    "two layers in one entry": (
        ECHO + "stack: [{access_log: {}, cors: {}}]\n",
        "gateway.yaml:2:9: stack[0]: expected one layer, as in - cors: {...}, got a mapping",
    ),
    "a number out of range": (
        ECHO + "server:\n  port: 70000\n",
        "gateway.yaml:3:9: server.port: expected a whole number from 0 to 65535, got '70000'",
    ),
    "not a number": (
        ECHO + "server: {workers: many}\n",
        "gateway.yaml:2:19: server.workers: expected a whole number from 1 to 512, got 'many'",
    ),
    "a fraction for a whole number": (
        ECHO + "server: {workers: 1.5}\n",
        "gateway.yaml:2:19: server.workers: expected a whole number from 1 to 512, got '1.5'",
    ),
    "infinity": (
        ECHO + "server: {graceful_shutdown_seconds: .inf}\n",
        "gateway.yaml:2:37: server.graceful_shutdown_seconds: "
        "expected a number from 0 to 86400, got '.inf'",
    ),
    "zero where only more will do": (
        ECHO + "server: {timeouts: {idle_seconds: 0}}\n",
        "gateway.yaml:2:35: server.timeouts.idle_seconds: "
        "expected a number above 0 to 86400, got '0'",
    ),
    "a choice": (
        ECHO + "server: {log_format: jsn}\n",
        "gateway.yaml:2:22: server.log_format: expected one of console, json, got 'jsn'",
    ),
    "not a boolean": (
        ECHO + "server: {docs: maybe}\n",
        "gateway.yaml:2:16: server.docs: expected true or false, got 'maybe'",
    ),
    "a list where one value belongs": (
        ECHO + "server: {host: [a]}\n",
        "gateway.yaml:2:16: server.host: expected a text of 1 to 1024 characters, got a list",
    ),
    "nothing where a value belongs": (
        ECHO + "server: {port: }\n",
        "gateway.yaml:2:15: server.port: expected a whole number from 0 to 65535, got nothing",
    ),
    "a value where a mapping belongs": (
        "providers: echo\n",
        "gateway.yaml:1:12: providers: expected a mapping, got a text",
    ),
    "a value where a list belongs": (
        ECHO + "stack: access_log\n",
        "gateway.yaml:2:8: stack: expected a list, got a text",
    ),
    "no providers": (
        "server: {}\n",
        "gateway.yaml:1:1: providers: no provider is configured; the offline one is {type: echo}",
    ),
    "a provider without a type": (
        "providers: {a: {api_key: x}}\n",
        "gateway.yaml:1:16: providers.a.type: the key is missing; expected one of openai, azure, "
        "echo, ",
    ),
    "a provider type that is near one": (
        "providers: {a: {type: grok}}\n",
        "gateway.yaml:1:23: providers.a.type: unknown provider type 'grok', did you mean groq?",
    ),
    "a provider type that is a list": (
        "providers: {a: {type: [echo]}}\n",
        "gateway.yaml:1:23: providers.a.type: expected one of openai, azure, echo, ",
    ),
    "a name that is too long": (
        f"{ECHO}models: {{fast: {{targets: [{{provider: echo, model: {'m' * 1025}}}]}}}}\n",
        "gateway.yaml:2:51: models.fast.targets[0].model: "
        "expected a text of 1 to 1024 characters, got another value",
    ),
    "a provider's name with a slash": (
        "providers: {a/b: {type: echo}}\n",
        "gateway.yaml:1:13: providers.a/b: a provider's name cannot hold a slash",
    ),
    "a URL of another scheme": (
        "providers: {a: {type: vllm, base_url: 'ftp://x'}}\n",
        "gateway.yaml:1:39: providers.a.base_url: "
        "expected an http:// or https:// URL without user, query or fragment, got another value",
    ),
    "a key that is missing": (
        "providers: {a: {type: groq}}\n",
        "gateway.yaml:1:13: providers.a.api_key: the key is missing, and GROQ_API_KEY is not set",
    ),
    "a key that could be in one of two variables": (
        "providers: {a: {type: gemini}}\n",
        "gateway.yaml:1:13: providers.a.api_key: "
        "the key is missing, and GOOGLE_API_KEY or GEMINI_API_KEY is not set",
    ),
    "a key that is missing where a well-known one is not sent": (
        "providers: {a: {type: anthropic, base_url: 'https://other.example.com'}}\n",
        "gateway.yaml:1:13: providers.a.api_key: "
        "the key is missing; for a base_url it has to be given",
    ),
    "an option that is needed": (
        "providers: {a: {type: vertex}}\n",
        "gateway.yaml:1:13: providers.a.project: "
        "the key is missing, and GOOGLE_CLOUD_PROJECT is not set",
    ),
    "a key for what takes none": (
        "providers: {a: {type: echo, api_key: k}}\n",
        "gateway.yaml:1:29: providers.a.api_key: unknown key; known are type, chunk_delay_seconds",
    ),
    "a media type that nobody takes": (
        ECHO + "server: {fetch_images: {enabled: true, media_types: [image/tiff]}}\n",
        "gateway.yaml:2:54: server.fetch_images.media_types[0]: expected one of application/pdf, "
        "image/gif, image/jpeg, image/png, image/webp, got 'image/tiff'",
    ),
    "an option of another type": (
        "providers: {a: {type: mistral, api_key: k, betas: [b]}}\n",
        "gateway.yaml:1:44: providers.a.betas: unknown key",
    ),
    "an option out of its range": (
        "providers: {a: {type: anthropic, api_key: k, default_max_tokens: 0}}\n",
        "gateway.yaml:1:66: providers.a.default_max_tokens: "
        "expected a whole number from 1 to 10000000, got '0'",
    ),
    "an option that is no choice": (
        "providers: {a: {type: anthropic, api_key: k, structured_output: no}}\n",
        "gateway.yaml:1:65: providers.a.structured_output: "
        "expected one of auto, native, tool, got 'no'",
    ),
    "an empty key": (
        "providers: {a: {type: openai, api_key: ''}}\n",
        "gateway.yaml:1:40: providers.a.api_key: expected a text, got an empty one",
    ),
    "an address that differs by account": (
        "providers: {a: {type: snowflake, api_key: x}}\n",
        "gateway.yaml:1:13: providers.a.base_url: "
        "the key is missing: snowflake has no address that all accounts share",
    ),
    "azure without an endpoint": (
        "providers: {a: {type: azure, api_key: x, api_version: 1}}\n",
        "gateway.yaml:1:16: providers.a.endpoint: the key is missing",
    ),
    "a target of no provider": (
        ECHO + "models: {fast: {targets: [{provider: ecko, model: m}]}}\n",
        "gateway.yaml:2:28: models.fast.targets[0].provider: "
        "no provider 'ecko' is configured, did you mean echo?",
    ),
    "an alias without targets": (
        ECHO + "models: {fast: {targets: []}}\n",
        "gateway.yaml:2:26: models.fast.targets: the list is empty",
    ),
    "an alias without anything": (
        ECHO + "models: {fast: }\n",
        "gateway.yaml:2:15: models.fast.targets: the key is missing",
    ),
    "a fallback that is no model": (
        ECHO + "models: {fast: {targets: [{provider: echo, model: m}], fallbacks: [fsat]}}\n",
        "gateway.yaml:2:68: models.fast.fallbacks[0]: "
        "no model 'fsat' is configured, did you mean fast?",
    ),
    "an alias that hides a provider's models": (
        ECHO + "models: {echo/x: {targets: [{provider: echo, model: m}]}}\n",
        "gateway.yaml:2:10: models.echo/x: the name would hide a model of the provider echo",
    ),
    "a key twice": (
        "providers:\n  echo: {type: echo}\n  echo: {type: echo}\n",
        "gateway.yaml:3:3: providers.echo: the key stands on line 2 too",
    ),
    "a variable that is not set": (
        "providers: {a: {type: openai, api_key: ${NO_SUCH_KEY}}}\n",
        "gateway.yaml:1:40: providers.a.api_key: the environment variable NO_SUCH_KEY is not set; "
        "set it, or write ${NO_SUCH_KEY:-default}",
    ),
    "a reference that is none": (
        "providers: {a: {type: openai, api_key: ${no-such}}}\n",
        "gateway.yaml:1:40: providers.a.api_key: ${no-such} is no reference; "
        "write ${NAME}, ${NAME:-default}, or $${ for the two characters",
    ),
    "not YAML": (
        "providers: {echo: {type: echo}\nserver: {}\n",
        "gateway.yaml:2:1: not valid YAML: expected ',' or '}', "
        "while parsing a flow mapping that begins on line 1",
    ),
    "a tab": (
        "providers:\n\techo: {type: echo}\n",
        "gateway.yaml:2:1: not valid YAML: found character '\\t' that cannot start any token",
    ),
    "two documents": (
        ECHO + "---\na: 1\n",
        "gateway.yaml:2:1: the file holds more than one document",
    ),
    "a tag": (
        ECHO + "server: !!python/object/apply:os.system [ls]\n",
        "gateway.yaml:2:9: server: tags such as !x are not supported",
    ),
    "a key that is a list": (
        "? [a]\n: b\n",
        "gateway.yaml:1:3: a key must be a plain name",
    ),
    "not UTF-8": (
        b"providers: \xff\n",
        "gateway.yaml: the file is not UTF-8 (byte 11)",
    ),
    "a control character": (
        b"providers: \x00\n",
        "gateway.yaml: not valid YAML: a character is not allowed",
    ),
    "a character that is reserved": (
        "providers: \ue000\n",
        "gateway.yaml: not valid YAML: the character U+E000 is not allowed",
    ),
    "an anchor that is not there": (
        ECHO + "server: *nowhere\n",
        "gateway.yaml:2:9: server: the anchor *nowhere is not defined above",
    ),
    "an anchor inside itself": (
        ECHO + "server: &a {timeouts: *a}\n",
        "gateway.yaml:2:23: server.timeouts: the anchor *a is not defined above",
    ),
    "a merge of a value": (
        ECHO + "server: {<<: 4}\n",
        "gateway.yaml:2:10: server: << takes a mapping, or a list of mappings",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_has_its_message(tmp_path: Path, name: str) -> None:
    """The first line of the error is the whole story of the first mistake."""
    text, expected = CASES[name]
    first = problems(tmp_path, text)[0]
    if expected.endswith(", "):
        first = first[: len(expected)]
    assert first == expected


def test_all_mistakes_are_told_at_once_in_the_files_order(tmp_path: Path) -> None:
    """Missing variables, unknown keys and wrong values of one file come in one error."""
    text = (
        "server: {prt: 1, port: x}\n"
        "providers:\n"
        "  a: {type: openai, api_key: ${NO_SUCH_KEY}}\n"
        "  b: {type: opnai}\n"
        "stack: [prompt]\n"
    )
    assert [line.split(": ")[1] for line in problems(tmp_path, text)] == [
        "server.prt",
        "server.port",
        "providers.a.api_key",
        "providers.b.type",
        "stack[0].prompt",
    ]


def test_a_value_from_the_environment_is_not_quoted(tmp_path: Path) -> None:
    """A variable in the wrong place may hold a secret."""
    text = ECHO + "server: {port: ${PORT}}\n"
    assert problems(tmp_path, text, {"PORT": "canary"}) == [
        "gateway.yaml:2:16: server.port: expected a whole number from 0 to 65535, got another value"
    ]


def test_nesting_is_bounded(tmp_path: Path) -> None:
    """A file that is nested too deeply is refused, and ends no stack."""
    assert "nested more than 40 deep" in problems(tmp_path, "a: " + "[" * 100_000)[0]


def test_aliases_are_counted_in_full(tmp_path: Path) -> None:
    """Aliases of aliases end at the bound on values, and not when memory does."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefghijklm", "bcdefghijklmn", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    assert "more than 100000 values" in problems(tmp_path, "\n".join(lines))[0]


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """Ten megabytes are the cap."""
    assert problems(tmp_path, b"#" * (10 * 1024 * 1024 + 1)) == [
        "gateway.yaml: the file is larger than 10 MB"
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("missing.yaml", "No such file or directory"), (".", "Is a directory")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, expected: str) -> None:
    """The operating system's reason is given."""
    with pytest.raises(ConfigurationProblems) as caught:
        load(tmp_path / name, environ={})
    assert caught.value.message == f"{tmp_path / name}: the file cannot be read: {expected}"


def test_a_mapping_has_paths_and_no_lines() -> None:
    """A program's own mapping is checked by the same rules."""
    with pytest.raises(ConfigurationProblems) as caught:
        load({"providers": {"echo": {"type": "echo"}}, "server": {"prt": 1, "port": True}})
    assert caught.value.message.split("\n") == [
        "server.prt: unknown key, did you mean port?",
        "server.port: expected a whole number from 0 to 65535, got True",
    ]
    assert caught.value.param == "server.prt"


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"server": {1: 2}}, "server: a key of type int"),
        ({"stack": [object()]}, "stack[0]: cannot be a value of type object"),
    ],
)
def test_a_mapping_of_other_types_is_refused(mapping: dict[str, object], expected: str) -> None:
    """What no file could hold, no mapping may hold."""
    with pytest.raises(ConfigurationProblems) as caught:
        load(mapping)
    assert caught.value.message == expected
