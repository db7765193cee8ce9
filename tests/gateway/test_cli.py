"""The command line: what it prints, where, and its exit status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import asgi_llm
from asgi_llm.gateway._listing import columns
from asgi_llm.gateway._welcome import first_model, welcome
from asgi_llm.gateway.build import build
from asgi_llm.gateway.commands import commands
from asgi_llm.gateway.config import load
from asgi_llm.gateway.serve import ListenError, is_loopback, listen

GOOD = """
providers:
  echo: {type: echo}
  lab: {type: vllm, models: [qwen]}
models:
  fast: {targets: [{provider: echo, model: echo}, {provider: lab, model: qwen}]}
"""
BARE = {"PATH": os.environ["PATH"]}


def invoke(*arguments: str, **environ: str) -> Result:
    """One command in process, with no variable of ours but ``environ``."""
    found = {name: None for name in os.environ if name.startswith("ASGI_LLM")}
    keys = {name: None for name in os.environ if name.endswith(("_KEY", "_TOKEN"))}
    return CliRunner().invoke(commands, list(arguments), env={**found, **keys, **environ})


def file(tmp_path: Path, text: str = GOOD) -> str:
    """A configuration file."""
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return str(path)


def test_version() -> None:
    """It is the package's."""
    result = invoke("version")
    assert (result.exit_code, result.stdout) == (0, f"{asgi_llm.__version__}\n")


def test_check_of_a_good_file_warns_of_what_is_not_used(tmp_path: Path) -> None:
    """Status 0, the count on standard output, warnings on standard error."""
    path = file(tmp_path)
    result = invoke("check", "--config", path)
    assert (result.exit_code, result.stdout) == (
        0,
        f"{path} is valid: 2 providers, 1 model alias.\n",
    )
    assert result.stderr == (
        f"warning: {path}:6:10: models.fast.targets: "
        "not used without a layer router: the first target is called\n"
    )


def test_check_of_a_bad_file_tells_every_line(tmp_path: Path) -> None:
    """Status 2, one line an error on standard error, nothing else."""
    path = file(tmp_path, "providers: {e: {type: ehco}}\nsever: {}\n")
    result = invoke("check", "-c", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {path}:1:23: providers.e.type: unknown provider type 'ehco', did you mean echo?\n"
        f"error: {path}:2:1: sever: unknown key, did you mean server?\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "providers: {v: {type: vllm, quirks: [nothing]}}",
            ":1:29: providers.v.quirks: unknown quirk 'nothing'; known are ",
        ),
        (
            "providers: {v: {type: vllm, ca_file: /nowhere.pem}}",
            ":1:29: providers.v.ca_file: ",
        ),
        (
            "providers: {a: {type: azure, api_key: k, endpoint: 'https://x'}}",
            ":1:13: providers.a.api_version: api 'deployments' needs an api_version",
        ),
        (
            "providers: {e: {type: echo}}\nstack: [access_log, {cors: {}}]",
            ":2:22: stack[1].cors.allow_origins: allow_origins must not be empty",
        ),
    ],
)
def test_check_tells_what_an_adapter_or_a_layer_refuses(
    tmp_path: Path, text: str, expected: str
) -> None:
    """Options that only their owner can judge are told with their place as well."""
    path = file(tmp_path, text)
    result = invoke("check", "--config", path)
    assert result.exit_code == 2
    assert result.stderr[: len(f"error: {path}{expected}")] == f"error: {path}{expected}"


def test_check_without_a_file_looks_at_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `serve` would use is what is checked."""
    monkeypatch.chdir(tmp_path)
    result = invoke("check", GROQ_API_KEY="k")
    assert result.stdout == "The environment is valid: 2 providers, 0 model aliases.\n"


def test_models_lists_aliases_and_what_is_known(tmp_path: Path) -> None:
    """Aliases with their target, then provider/model, aligned."""
    text = "{providers: {e: {type: echo}, l: {type: vllm, models: [qwen]}, v: {type: vllm}}, "
    text += "models: {fast: {targets: [{provider: l, model: qwen}]}}}"
    lines = invoke("models", "--config", file(tmp_path, text)).stdout.splitlines()
    width = max(len(line.split("  ")[0]) for line in lines)
    assert lines[0] == "fast".ljust(width) + "  l/qwen"
    assert "e/echo" in lines
    assert lines[-2:] == ["l/qwen", "v/MODEL".ljust(width) + "  any model of this provider"]


MIXED = """
providers:
  claude: {type: anthropic, api_key: k, models: [claude-x]}
  box: {type: ollama}
  v: {type: voyage, api_key: k}
  e: {type: groq, api_key: k}
models:
  fast: {targets: [{provider: box, model: m}]}
"""


def test_capabilities_are_told_by_provider(tmp_path: Path) -> None:
    """One thing a line, in words; what is not known of an endpoint is said to be passed on."""
    lines = invoke("models", "--capabilities", "-c", file(tmp_path, MIXED)).stdout.splitlines()
    assert [line.split("  ")[0] for line in lines if line[0] != " "] == ["claude", "box", "v", "e"]
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "box ollama chat, embeddings\nhas streaming, tools," in text
    assert "has not image urls, documents, audio in, audio out\n" in text
    assert "tool choice: auto, none\n" in text
    assert "choices: several calls\n" in text
    assert "v voyage embeddings, rerank\n1000 texts a call\ne groq chat," in text
    assert "passes on tools, parallel tools, tool choice," in text


def test_the_welcome_says_how_to_come_by_a_key(tmp_path: Path) -> None:
    """Where one is needed; with a database, by which command."""
    keyed = "providers: {e: {type: echo}}\nstack: [{auth: {master_key: 7yq-Wm2-Kd9-Xz4-Rf6}}]\n"
    config = file(tmp_path, keyed)
    loaded = load(config)
    text = welcome(loaded, build(loaded), url="http://h", workers=1, exposed=False)
    assert "    -H 'Authorization: Bearer YOUR_KEY' \\\n" in text
    assert f"  A key is made by: asgi-llm keys create --name NAME --config {config}\n" in text


def test_prices_are_told_with_their_source(tmp_path: Path) -> None:
    """By alias or by provider and model; what is not known is said to be so."""
    config = file(tmp_path, MIXED)
    text = invoke("prices", "-c", config, "claude/claude-sonnet-4-5", "e/no-such").stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:2] == ["claude/claude-sonnet-4-5", "input $3 a million tokens"]
    assert "input $6 a million tokens above 200,000 input tokens" in lines
    assert any(line.startswith("taken genai-prices ") for line in lines)
    assert lines[lines.index("e/no-such") + 1] == "price not known"
    assert invoke("prices", "-c", config, "fast").stdout.startswith("box/m\n")


def test_a_name_that_nobody_has_has_no_price(tmp_path: Path) -> None:
    """A provider that is not configured is a mistake in the name."""
    done = invoke("prices", "-c", file(tmp_path, MIXED), "openai/gpt-4o")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: openai/gpt-4o is neither an alias nor PROVIDER/MODEL of this configuration\n",
    )


def test_models_for_a_request_say_what_each_lacks(tmp_path: Path) -> None:
    """Each name with its verdict, aliases by their target; the request needs no model."""
    request = tmp_path / "request.json"
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    request.write_text(json.dumps({"messages": [{"role": "user", "content": [part]}], "n": 2}))
    config = file(tmp_path, MIXED)
    lines = invoke("models", "-c", config, "--for", str(request)).stdout.splitlines()
    assert [line.split("  ", 1)[0].strip() for line in lines] == [
        "fast",
        "claude/claude-x",
        "box/MODEL",
        "v/MODEL",
        "e/MODEL",
    ]
    assert [line.split("  ", 1)[1].strip() for line in lines] == [
        "lacks images by URL",
        "fits",
        "lacks images by URL",
        "lacks chat",
        "lacks several choices",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "The request has none of the fields messages, documents, prompt, voice, input."),
        ('{"messages": [{"role": "nobody"}]}', "messages[0].role"),
    ],
)
def test_models_for_what_is_no_request_is_an_error(
    tmp_path: Path, text: str, expected: str
) -> None:
    """Status 2, with the file's name and what is wrong with it."""
    request = tmp_path / "request.json"
    request.write_text(text)
    result = invoke("models", "-c", file(tmp_path), "--for", str(request))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {request}: ")
    assert expected in result.stderr


def test_schema_is_json() -> None:
    """It can be piped into a file for an editor."""
    assert json.loads(invoke("schema").stdout)["title"] == "asgi-llm configuration"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_b38_serve_refuses_an_open_address_without_authentication(
    tmp_path: Path, host: str
) -> None:
    """Anything but loopback takes --insecure; the refusal comes before anything is bound."""
    result = invoke("serve", "--config", file(tmp_path), "--host", host)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: refusing to listen on {host}: callers are not authenticated, so anyone who can "
        "reach this address could spend your keys. Put auth into the stack, listen on 127.0.0.1 "
        "behind a proxy that "
        "authenticates, or pass --insecure.\n"
    )


def test_b38_serve_refuses_an_open_address_of_the_file(tmp_path: Path) -> None:
    """The rule holds for server.host too."""
    text = GOOD + "server: {host: 0.0.0.0}\n"
    assert invoke("serve", "--config", file(tmp_path, text)).exit_code == 2


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("host.invalid", False),
        ("", False),
    ],
)
def test_what_counts_as_loopback(host: str, expected: bool) -> None:
    """Every address that a name has must be one; a name that has none is none."""
    assert is_loopback(host) is expected


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    """Status 1, and what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = invoke("serve", "--config", file(tmp_path), "--port", str(port))
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: cannot listen on 127.0.0.1:{port}: "
        f"port {port} is in use by another program; choose one with --port\n",
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
        ("host.invalid", "host.invalid is no known host name"),
    ],
)
def test_an_address_of_another_machine(host: str, expected: str) -> None:
    """The reason is in words."""
    with pytest.raises(ListenError) as caught:
        listen(host, 0)
    assert str(caught.value) == f"cannot listen on {host}:0: {expected}"


def test_a_wrong_option_is_clicks_to_tell() -> None:
    """Usage errors have status 2, as those of the configuration."""
    result = invoke("serve", "--port", "70000")
    assert result.exit_code == 2
    assert "70000 is not in the range 0<=x<=65535" in result.stderr


def without(
    package: str, tmp_path: Path, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """One command in a process that has no ``package``."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {package!r}:\n"
        f"            raise ModuleNotFoundError('No module named {package}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "asgi_llm", *arguments],
        env={**BARE, "PYTHONPATH": str(tmp_path), **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_missing_package_is_named_with_its_command(tmp_path: Path) -> None:
    """Without the extra the command says how to get it, and shows no traceback."""
    done = without("click", tmp_path, "version")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "asgi-llm: click is not installed; run: pip install 'asgi-llm[gateway]'\n",
    )


def test_a_provider_of_the_environment_without_its_package_is_left_out(tmp_path: Path) -> None:
    """The gateway starts without it, and says what to install."""
    environ = {"GOOGLE_GENAI_USE_VERTEXAI": "true", "GOOGLE_CLOUD_PROJECT": "p"}
    done = without("google.auth", tmp_path, "check", **environ)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "The environment is valid: 1 provider, 0 model aliases.\n",
        "warning: vertex is left out: google.auth is not installed; "
        "run: pip install 'asgi-llm[vertex]'.\n",
    )


def test_the_welcome_of_a_new_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no file and no key: where it serves, the one provider, and a line that works."""
    monkeypatch.chdir(tmp_path)
    loaded = load(environ={})
    text = welcome(loaded, build(loaded), url="http://127.0.0.1:4000", workers=1, exposed=False)
    assert (
        text
        == f"""\
asgi-llm {asgi_llm.__version__}

Serving  http://127.0.0.1:4000/v1
Docs     http://127.0.0.1:4000/docs
Health   http://127.0.0.1:4000/health
Config   no file; providers whose keys are in the environment

Providers
  echo  offline, needs no key  as echo/echo
  Set OPENAI_API_KEY, or the key of another known provider, for more.

Try it
  curl http://127.0.0.1:4000/v1/chat/completions \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "echo/echo", "messages": [{{"role": "user", "content": "Hello"}}]}}'

Press Ctrl+C to stop.
"""
    )


def test_the_welcome_of_a_platform_team(tmp_path: Path) -> None:
    """A file with aliases, workers, an open address and something to know."""
    path = file(tmp_path)
    loaded = load(path, environ={})
    text = welcome(loaded, build(loaded), url="http://127.0.0.1:80", workers=4, exposed=True)
    assert f"Config   {path}\nWorkers  4\n" in text
    assert (
        "Providers\n"
        "  echo  offline, needs no key     as echo/echo\n"
        "  lab   http://127.0.0.1:8000/v1  as lab/qwen\n"
        "\n"
        "Models\n"
        "  fast  echo/echo\n"
    ) in text
    assert '"model": "fast"' in text
    assert text.split("Notes\n")[1].startswith(f"  {path}:6:10: models.fast.targets: not used")
    assert "  Callers are not authenticated, and other machines can reach this address.\n" in text


def test_a_long_list_of_aliases_is_cut_short() -> None:
    """The welcome stays on one screen, whatever the file holds."""
    target = {"targets": [{"provider": "e", "model": "echo"}]}
    mapping = {
        "providers": {
            "e": {"type": "echo"},
            "o": {"type": "openai", "api_key": "k"},
            "a": {
                "type": "azure",
                "api_key": "k",
                "endpoint": "https://x.openai.azure.com",
                "api_version": "2024-10-21",
            },
        },
        "models": {f"m{number}": target for number in range(20)},
    }
    loaded = load(mapping)
    text = welcome(loaded, build(loaded), url="http://[::1]:80", workers=1, exposed=False)
    assert "  m11  e/echo\n  and 8 more: asgi-llm models\n" in text
    assert (
        "  e  offline, needs no key       as e/echo\n"
        "  o  https://api.openai.com/v1   as o/MODEL\n"
        "  a  https://x.openai.azure.com  as a/MODEL\n"
    ) in text


def test_the_model_to_try_costs_nothing_where_that_is_possible() -> None:
    """An alias first, for it is what clients shall use; else the offline provider."""
    mapping = {"providers": {"v": {"type": "vllm"}, "x": {"type": "echo"}}}
    assert first_model(build(load(mapping))) == "x/echo"
    assert first_model(build(load({"providers": {"v": {"type": "vllm"}}}))) == "v/MODEL"


def test_columns_are_aligned() -> None:
    """Two spaces between the widest cells, none at the end of a line."""
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]


def test_prices_of_the_layer_count(tmp_path: Path) -> None:
    """What the command tells is what calls are charged."""
    text = GOOD + (
        "stack:\n  - cost: {prices: {overrides: {lab: {qwen: {input: 1, output: 2}}}}}\n"
    )
    told = invoke("prices", "-c", file(tmp_path, text), "lab/qwen").stdout
    assert ["input", "$1"] == told.splitlines()[1].split()[:2]
    wrong = text.replace("output: 2", "output: x")
    refused = invoke("prices", "-c", file(tmp_path, wrong), "lab/qwen")
    assert 2 == refused.exit_code
    assert ": stack[0].cost.prices.overrides.lab.qwen.output: " in refused.stderr


def test_the_welcome_says_where_the_ledger_is(tmp_path: Path) -> None:
    """One line, and nothing that the database's address keeps to itself."""
    shown = {}
    for name, storage in (
        ("file", "database: 'sqlite:////var/lib/gateway.db'"),
        ("default", "redis: null"),
        ("server", "database: 'postgresql://user:canary@host/name'"),
    ):
        loaded = load(file(tmp_path, GOOD + f"storage: {{{storage}}}\nstack: [cost]\n"))
        text = welcome(loaded, build(loaded), url="http://x", workers=1, exposed=False)
        (shown[name],) = [line.split(None, 1)[1] for line in text.splitlines() if "Ledger" in line]
        assert "canary" not in text
    assert {
        "file": "/var/lib/gateway.db: what each call used and cost",
        "default": "asgi-llm.db: what each call used and cost",
        "server": "PostgreSQL: what each call used and cost",
    } == shown
