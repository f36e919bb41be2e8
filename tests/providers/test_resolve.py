"""From a name to a model, and what that imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import ModelError
from holdfast.model import Message, ModelRequest, Text
from holdfast.providers import Model, RecordedModel, resolve

from .dialects import DIALECTS, Dialect
from .loopback import answer, loopback

HEAVY = ("anthropic", "genai_prices", "httpx2", "openai", "pydantic_ai")


def in_fresh_python(script: str, folder: Path) -> str:
    command = [sys.executable, "-I", "-B", "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_and_resolving_import_no_sdk_and_no_price_list(tmp_path: Path) -> None:
    script = "import sys, holdfast.providers as p; p.resolve('openai:x'); sys.stdout.write(' '.join(sys.modules))"
    pulled = {name.partition(".")[0] for name in in_fresh_python(script, tmp_path).split()}
    assert "holdfast" in pulled
    assert pulled.isdisjoint(HEAVY), sorted(pulled.intersection(HEAVY))


def test_a_missing_extra_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)  # how Python marks a package that can't be imported
    with pytest.raises(ModelError, match=r"pip install 'holdfast\[models\]'") as caught:
        resolve("openai:gpt-test")
    assert (caught.value.sent, caught.value.transient) == (False, False)


@pytest.mark.parametrize("route", ["gpt-5", "openai:", "nobody:gpt-5", "", ":x"])
def test_a_name_that_is_no_route_is_an_error_that_lists_the_routes(route: str) -> None:
    with pytest.raises(ModelError, match="openai-chat:<model>") as caught:
        resolve(route)
    assert caught.value.route == route


def test_a_model_resolves_to_itself() -> None:
    model: Model = RecordedModel("recorded:x", {})
    assert resolve(model) is model


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.route)
async def test_a_named_model_reads_key_and_address_when_it_is_asked(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = resolve(dialect.route)
    assert model.name == dialect.route
    async with loopback(answer(dialect.says_yes)) as server:
        monkeypatch.setenv(dialect.key_variable, "sk-from-environment")
        monkeypatch.setenv(dialect.key_variable.replace("API_KEY", "BASE_URL"), server.url + dialect.path)
        try:
            reply = await model.complete(
                ModelRequest(instructions="", messages=(Message("user", (Text("Is A1 in stock?"),)),))
            )
        finally:
            await model.aclose()  # type: ignore[attr-defined]  # not part of the protocol
        assert server.seen[0].headers[dialect.key_header].endswith("sk-from-environment")
    assert reply.message.text == "Yes, seven."
