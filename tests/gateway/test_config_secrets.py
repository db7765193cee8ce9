"""Keys, proxies and headers of a configuration appear nowhere by themselves."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest
import yaml

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.build import build
from asgi_llm.gateway.config import Secret, load

CANARY = "sk-canary-0123456789"


def test_a_secret_shows_itself_only_on_demand() -> None:
    """repr, str, format and pickling do not give it out; reveal does."""
    secret = Secret(CANARY)
    assert [repr(secret), str(secret), f"{secret}", f"{secret!r:>13}"] == ["Secret('***')"] * 4
    assert secret.reveal() == CANARY
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)


def test_incident_2026_03_18_a_loaded_configuration_shows_no_secret(tmp_path: Path) -> None:
    """Its repr holds no value of the file that is a secret."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "providers:\n"
        f"  a: {{type: openai, api_key: {CANARY}, headers: {{X-Tenant: {CANARY}}}}}\n"
        f"  b: {{type: vllm, proxy: 'http://user:{CANARY}@127.0.0.1:1'}}\n"
        "  c: {type: groq}\n"
        f"  d: {{type: bedrock, region: r, access_key_id: {CANARY}, secret_access_key: {CANARY}}}\n"
        f"  e: {{type: litellm, options: {{api_key: {CANARY}}}}}\n"
    )
    loaded = load(file, environ={"GROQ_API_KEY": CANARY})
    assert CANARY not in repr(loaded)
    assert "api_key=Secret('***')" in repr(loaded)


WRONG = {
    "unknown key beside it": f"{{type: openai, api_key: {CANARY}, api_kee: {CANARY}}}",
    "key of another name": f"{{type: openai, api_kye: {CANARY}}}",
    "key in a list": f"{{type: openai, api_key: [{CANARY}]}}",
    "key in a mapping": f"{{type: openai, api_key: {{a: {CANARY}}}}}",
    "key with a line end": f'{{type: openai, api_key: "{CANARY}\\n"}}',
    "key with a letter of another alphabet": f"{{type: groq, api_key: {CANARY}ä}}",
    "key of a format of its own": f'{{type: anthropic, api_key: "{CANARY}\\n"}}',
    "key in a text of options": f"{{type: ollama, options: {CANARY}}}",
    "header with a line end": f'{{type: vllm, headers: {{X-A: "{CANARY}\\r\\nX-B: 1"}}}}',
    "header that is the transport's": f"{{type: vllm, headers: {{Host: {CANARY}}}}}",
    "proxy of another kind": f"{{type: vllm, proxy: 'ftp://u:{CANARY}@h'}}",
    "proxy that is no URL": f"{{type: vllm, proxy: 'http://u:{CANARY}@h:port'}}",
    "password in the URL": f"{{type: vllm, base_url: 'http://u:{CANARY}@h/v1'}}",
    "key as a type": f"{{type: {CANARY}}}",
    "key as a number": f"{{type: vllm, timeouts: {{idle_seconds: {CANARY}}}}}",
    "not YAML after it": f"{{type: openai, api_key: {CANARY}, ]",
    "not YAML before it": f"{{type: openai, ], api_key: {CANARY}}}",
    "an alias of that name": f"{{type: openai, api_key: *nothing, project: {CANARY}}}",
}


@pytest.mark.parametrize("source", ["file", "environment", "mapping"])
@pytest.mark.parametrize("name", WRONG)
def test_incident_2026_03_18_no_error_shows_a_secret(
    tmp_path: Path, name: str, source: str
) -> None:
    """Whatever is wrong with it or around it, the message and its causes leave the value out."""
    written = WRONG[name]
    environ = {"K": CANARY}
    if source == "environment":
        written = written.replace(CANARY, "${K}")
    file = tmp_path / "gateway.yaml"
    file.write_text(f"providers:\n  a: {written}\n")
    with pytest.raises(ConfigurationError) as caught:
        if source == "mapping" and "YAML" not in name and "alias" not in name:
            build(load(yaml.safe_load(file.read_text())))
        else:
            build(load(file, environ=environ))
    assert CANARY not in caught.value.message
    assert CANARY not in "".join(traceback.format_exception(caught.value, chain=True))
