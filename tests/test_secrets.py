"""Canary secrets are planted wherever a user could hand one over; afterwards they are in no file of the store, no log, no export.

What is searched: every file beside the store byte by byte (while it is open, with its log, and after it was closed), every payload and
blob unpacked, the exports, the log. Looked for are the secret itself and what it would be as base64, hex and SHA-256. A word that is no
secret is planted the same way and must be found, or the search proves nothing.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import HoldfastError, RunFailed
from holdfast.journal import blobs, codec
from holdfast.journal.export import export as export_lines
from holdfast.runtime import Workflow
from holdfast.store import Store, Stream, open_store
from holdfast.trust import Trust
from tests.providers.dialects import ANTHROPIC, CHAT, DIALECTS, Dialect
from tests.providers.loopback import Answer, answer, loopback
from tests.runtime.support import SOON_S, flow, loaded

CANARY = "canary-5f1c9a-do-not-store"
NO_KEY = hf.IdempotencyKey("")
OPEN_WORD = "marigold-7d20e4"


@dataclass
class Searched:
    """A store in a file, the log, and what was found in them."""

    path: Path
    log: pytest.LogCaptureFixture
    store: Store
    met: dict[str, bytes] = field(default_factory=dict)

    def look(self) -> None:
        """Collect everything that is there now."""
        for file in self.path.parent.rglob("*"):
            if file.is_file():
                self.met[f"{len(self.met)} {file.name}"] = file.read_bytes()
        with self.store.snapshot() as snapshot:
            for head in snapshot.runs():
                for stream in Stream:
                    for row in snapshot.rows(head.run, stream):
                        self.met[f"{head.run} {stream.name} {row.seq} header"] = row.header
                        self.met[f"{head.run} {stream.name} {row.seq} payload"] = codec.unpack(row.payload or b"")
                for id, data in snapshot.blobs(head.run):
                    self.met[f"{head.run} blob {id.hex()}"] = blobs.content_of(data)
            self.met["export"] = b"".join(export_lines(snapshot, self.store.address))
        said = "\n".join(f"{r.getMessage()} {r.exc_text or ''} {r.exc_info or ''}" for r in self.log.records)
        self.met["log"] = f"{self.log.text}{said}".encode()

    def where(self, word: str) -> list[str]:
        return [place for place, content in self.met.items() for form in forms(word) if form in content]

    def holds_no(self, secret: str) -> None:
        assert self.where(secret) == []


def forms(word: str) -> Iterator[bytes]:
    """What the word may have been turned into."""
    raw = word.encode()
    yield raw
    yield raw[::-1]
    yield raw.hex().encode()
    yield hashlib.sha256(raw).digest()
    yield hashlib.sha256(raw).hexdigest().encode()
    for shift in range(3):  # base64 of a text that the word stands in looks different by where it stands
        yield base64.b64encode(b"\x00" * shift + raw)[4 if shift else 0 : -4]


@asynccontextmanager
async def searched(
    tmp_path: Path, log: pytest.LogCaptureFixture, *workflows: Workflow[..., Any]
) -> AsyncIterator[tuple[hf.App, Searched]]:
    """An app on a store in a file; everything is searched while it is open and after it was closed."""
    log.set_level(logging.INFO)  # of all libraries; below that an HTTP client logs its own wire
    log.set_level(logging.DEBUG, logger="holdfast")
    path = tmp_path / "store" / "holdfast.db"
    path.parent.mkdir()
    store = await open_store(path)
    found = Searched(path, log, store)
    async with hf.open(store=store, registry=loaded(*workflows), poll_s=0.01) as app:
        yield app, found
        found.look()
    found.look()
    await store.close()
    found.met |= {f"closed {f.name}": f.read_bytes() for f in path.parent.rglob("*") if f.is_file()}


async def test_the_search_finds_what_is_no_secret_wherever_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The control: without it the tests below could pass by looking in the wrong place."""

    @hf.tool(effect="read")
    async def long_and_short(word: str) -> list[str]:
        return [word] * 1000

    async def handle(word: str) -> int:
        logging.getLogger("holdfast").warning("log %s", word)
        return len(await long_and_short(word))

    workflow = flow(handle)
    async with searched(tmp_path, caplog, workflow) as (app, found):
        await (await app.start(workflow, OPEN_WORD, id="r")).result(timeout_s=SOON_S)
    places = " ".join(found.where(OPEN_WORD))
    for place in ("holdfast.db", "-wal", "r RUN 0 payload", "r RUN 1 payload", "export", "log", "closed holdfast.db"):
        assert place in places


# -- arguments -------------------------------------------------------------------------------------------------------------


async def test_a_secret_argument_is_recorded_by_its_name_and_resolved_at_the_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_TOKEN", CANARY)
    seen: list[str] = []

    @hf.tool(effect="read")
    async def fetch(url: str, token: hf.Secret) -> str:
        seen.append(token.reveal())
        return "fetched"

    @hf.tool(effect="keyed", needs=Trust.EXTERNAL)
    async def send(token: hf.Secret, *, key: hf.IdempotencyKey = NO_KEY) -> str:
        seen.append(token.reveal())
        return "sent"

    @hf.step
    async def prepare(token: hf.Secret, others: list[hf.Secret]) -> str:
        seen.extend(secret.reveal() for secret in (token, *others))
        return "prepared"

    async def handle(given: hf.Secret) -> str:
        token, vault = hf.Secret("DESK_TOKEN"), hf.Secret("vault/desk", lambda: f"{CANARY}-vault")
        await prepare(given, [vault])
        await fetch("https://shop.example", token)
        await fetch("https://shop.example", token=vault)
        return await send(vault)

    workflow = flow(handle)
    async with searched(tmp_path, caplog, workflow) as (app, found):
        run = await app.start(workflow, hf.Secret("DESK_TOKEN"), id="r")
        assert (await run.result(timeout_s=SOON_S)).result == "sent"
    vault = f"{CANARY}-vault"
    assert seen == [CANARY, vault, CANARY, vault, vault]
    found.holds_no(CANARY)
    for name in ("DESK_TOKEN", "vault/desk"):
        assert any("export" in place for place in found.where(name))
        assert any("payload" in place for place in found.where(name))


async def test_a_secret_that_leaves_a_step_is_recorded_by_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vault = hf.Secret("vault/desk", lambda: CANARY)

    @hf.step
    async def choose() -> dict[str, Any]:
        return {"use": vault}

    async def handle() -> hf.Answer[dict[str, Any]]:
        chosen = await choose()
        await hf.recorded("settings", lambda: {"token": vault})
        return hf.Escalated(reason="which one?", attached={"chosen": chosen, "other": vault})

    async def ask() -> bool:
        return (await hf.approval("send it?", {"with": vault}, timeout_s=0.0)).approved

    escalating, asking = flow(handle), flow(ask)
    async with searched(tmp_path, caplog, escalating, asking) as (app, found):
        answer = await (await app.start(escalating, id="r")).result(timeout_s=SOON_S)
        assert isinstance(answer, hf.Escalated)
        assert answer.attached["other"] == {"$secret": "vault/desk"}
        await (await app.start(asking, id="a")).result(timeout_s=SOON_S)
        await app.run("a").signal("late", {"token": vault})
    found.holds_no(CANARY)
    assert len([place for place in found.where("vault/desk") if "payload" in place]) >= 4


async def test_a_secret_shows_itself_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    vault = hf.Secret("vault/desk", lambda: CANARY)
    logging.getLogger("holdfast").warning("%s %r %s", vault, vault, [vault])
    assert CANARY not in caplog.text
    assert repr(vault) == "Secret('vault/desk')"


# -- errors ----------------------------------------------------------------------------------------------------------------


async def test_an_error_that_mentions_the_header_does_not_keep_the_secret_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients put what they sent into their errors. What was revealed in this process is taken out of what is recorded."""
    vault = hf.Secret("vault/desk", lambda: CANARY)

    @hf.tool(effect="read", retry=hf.Retry(attempts=2, base_s=0.0))
    async def fetch(token: hf.Secret) -> str:
        raise ConnectionError(f"401 for request with headers {{'Authorization': 'Bearer {token.reveal()}'}}")

    @hf.step
    async def prepare(token: hf.Secret) -> str:
        raise ValueError(f"can't use {token.reveal()}")

    async def handle() -> None:
        try:
            await prepare(vault)
        except HoldfastError as error:
            logging.getLogger("holdfast").warning("%s", error)
        await fetch(vault)

    workflow = flow(handle)
    async with searched(tmp_path, caplog, workflow) as (app, found):
        run = await app.start(workflow, id="r")
        with pytest.raises(RunFailed, match="401 for request"):
            await run.result(timeout_s=SOON_S)
    found.holds_no(CANARY)
    assert found.where("401 for request")


# -- models ----------------------------------------------------------------------------------------------------------------


def chatting(model: Any) -> Workflow[..., Any]:
    agent: hf.Agent[Any] = hf.Agent("chat", model=model, instructions="", retry=hf.Retry(attempts=1))

    async def handle() -> str:
        return await agent.chat().say("hello")

    return flow(handle)


def echoing(dialect: Dialect) -> Answer:
    """A reply that says back what it was sent, in headers and body."""
    document = {**dialect.says_yes, "debug": {"authorization": f"Bearer {CANARY}"}}
    return answer(document, set_cookie=f"session={CANARY}", x_request_id=OPEN_WORD, authorization=CANARY)


@pytest.mark.parametrize("given", ["text", "secret", "environment"])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.route)
async def test_a_model_key_is_sent_and_kept_nowhere_even_if_the_server_says_it_back(
    dialect: Dialect, given: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = pytest.importorskip("holdfast.providers.hosted")
    if given == "environment":
        monkeypatch.setenv(dialect.key_variable, CANARY)
    key = {"text": CANARY, "secret": hf.Secret("MODEL_KEY", lambda: CANARY), "environment": None}[given]
    async with loopback(echoing(dialect)) as server:
        model = hosted.HostedModel(dialect.route, base_url=server.url + dialect.path, api_key=key, timeout_s=SOON_S)
        workflow = chatting(model)
        async with searched(tmp_path, caplog, workflow) as (app, found):
            assert (await (await app.start(workflow, id="r")).result(timeout_s=SOON_S)).result == "Yes, seven."
        await model.aclose()
        assert server.seen[0].headers[dialect.key_header] == f"{dialect.key_prefix}{CANARY}"
    found.holds_no(CANARY)
    assert found.where("Yes, seven.")  # the reply itself is kept
    assert not found.where(OPEN_WORD)  # no header is


@pytest.mark.parametrize("dialect", [CHAT, ANTHROPIC], ids=lambda d: d.route)
async def test_a_refused_key_that_the_error_repeats_is_not_kept(
    dialect: Dialect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosted = pytest.importorskip("holdfast.providers.hosted")
    refusal = answer(dialect.error("invalid_api_key", f"Incorrect API key provided: {CANARY}"), 401)
    async with loopback(refusal) as server:
        model = hosted.HostedModel(dialect.route, base_url=server.url + dialect.path, api_key=CANARY, timeout_s=SOON_S)
        workflow = chatting(model)
        async with searched(tmp_path, caplog, workflow) as (app, found):
            run = await app.start(workflow, id="r")
            with pytest.raises(RunFailed, match="Incorrect API key"):
                await run.result(timeout_s=SOON_S)
        await model.aclose()
    found.holds_no(CANARY)


async def test_headers_of_the_users_own_client_and_a_password_in_the_address_are_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosted = pytest.importorskip("holdfast.providers.hosted")
    httpx2 = pytest.importorskip("httpx2")
    names = ("authorization", "x-api-key", "api-key", "cookie", "proxy-authorization")

    async def add(request: Any) -> None:
        for name in names:
            request.headers[name] = CANARY

    async with httpx2.AsyncClient(event_hooks={"request": [add]}) as client, loopback(answer(CHAT.says_yes)) as server:
        address = server.url.replace("http://", f"http://desk:{CANARY}@")
        model = hosted.HostedModel(CHAT.route, base_url=address, http_client=client, timeout_s=SOON_S)
        workflow = chatting(model)
        async with searched(tmp_path, caplog, workflow) as (app, found):
            await (await app.start(workflow, id="r")).result(timeout_s=SOON_S)
        await model.aclose()
        assert {server.seen[0].headers[name] for name in names} == {CANARY}
    found.holds_no(CANARY)


async def test_a_server_that_can_not_be_reached_does_not_make_its_password_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosted = pytest.importorskip("holdfast.providers.hosted")
    async with loopback() as server:
        port = server.port
    model = hosted.HostedModel(CHAT.route, base_url=f"http://desk:{CANARY}@127.0.0.1:{port}/v1", timeout_s=SOON_S)
    workflow = chatting(model)
    async with searched(tmp_path, caplog, workflow) as (app, found):
        run = await app.start(workflow, id="r")
        with pytest.raises(RunFailed):
            await run.result(timeout_s=SOON_S)
    await model.aclose()
    found.holds_no(CANARY)


# -- models choose no secrets ----------------------------------------------------------------------------------------------


async def test_a_model_can_not_name_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.model import ToolCall
    from holdfast.testing import ScriptedModel

    monkeypatch.setenv("OTHER_PASSWORD", CANARY)

    @hf.tool(effect="read")
    async def fetch(url: str, token: hf.Secret) -> str:
        return f"sent {token.reveal()} to {url}"

    @hf.tool(effect="read")
    async def fetch_any(options: dict[str, Any]) -> str:
        return f"sent {options}"

    with pytest.raises(hf.errors.WorkflowDefect, match="secret"):
        hf.Agent("desk", model=ScriptedModel([]), instructions="", tools=[fetch])
    named = {"options": {"token": {"$secret": "OTHER_PASSWORD"}}}
    script = [
        ToolCall("c1", "fetch_any", named),
        ToolCall("end", "answer_completed", {"result": {"$secret": "OTHER_PASSWORD"}, "confidence": 0.5}),
        ToolCall("end", "answer_completed", {"result": {}, "confidence": 0.5}),
    ]
    model = ScriptedModel(script)
    agent: hf.Agent[Any] = hf.Agent("desk", model=model, instructions="", tools=[fetch_any], output=dict[str, Any])

    async def handle() -> hf.Answer[dict[str, Any]]:
        return await agent.run("?")

    workflow = flow(handle)
    async with searched(tmp_path, caplog, workflow) as (app, found):
        answered = await (await app.start(workflow, id="r")).result(timeout_s=SOON_S)
        assert answered.result == {}
    assert [m.parts[0].ok for m in model.requests[-1].messages if m.role == "tool"] == [False, False]  # type: ignore[union-attr]  # results
    found.holds_no(CANARY)
