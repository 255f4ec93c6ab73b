"""One call from its request to its answer, and the switches beside it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from providers.sandbox import anthropic_wire, brain, openai_wire
from providers.sandbox.server import Answer, Connection, Handler, Request, chunk, head
from providers.sandbox.switches import ERROR_ANSWERS, BadSwitch, Fault, Switches
from providers.sandbox.tally import Tally
from providers.sandbox.tokens import decode, encode
from providers.sandbox.wire import Call, ErrorAnswer, Refused, Wire, new_id

FAULT_HEADER = "x-sandbox-fault"
HANG_S_MAX = 3600
TRICKLE_S = 0.1
#: Events that a stream has sent before an error event follows.
EVENTS_BEFORE_ERROR = 3
STREAM_TYPE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is to be said to a call: its answer with the usage, and where it goes."""

    wire: Wire
    call: Call
    request_id: str
    answer: brain.Answer
    usage: Mapping[str, Any]

    @property
    def headers(self) -> Mapping[str, str]:
        return {self.wire.REQUEST_ID_HEADER: self.request_id}

    def body(self) -> bytes:
        return encode(self.wire.completion(self.call, self.answer, self.usage))

    def events(self) -> list[bytes]:
        return list(self.wire.events(self.call, self.answer, self.usage))


class Sandbox:
    """The state between calls: switches and counts. Called with a request, it gives the answer."""

    def __init__(self) -> None:
        self.switches = Switches()
        self.tally = Tally()
        self.routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): partial(self.completion, wire=openai_wire),
            ("POST", "/v1/messages"): partial(self.completion, wire=anthropic_wire),
            ("GET", "/v1/models"): self.models,
            ("GET", "/sandbox/stats"): self.stats,
            ("GET", "/sandbox/config"): self.configuration,
            ("POST", "/sandbox/config"): self.configure,
            ("POST", "/sandbox/reset"): self.reset,
        }

    def __call__(self, request: Request, connection: Connection) -> Answer:
        route = self.routes.get((request.method, request.path))
        if route is None:
            return _json({"error": {"message": f"No such path: {request.path}"}}, status=404)
        return route(request, connection)

    # --- The providers' endpoints

    def completion(self, request: Request, connection: Connection, *, wire: Wire) -> Answer:
        """A completion, in either wire format."""
        request_id = new_id("req_")
        try:
            wire.check_key(request.headers)
            call = wire.read(_value(request.body))
            wishes = call.wishes(request.headers.get(FAULT_HEADER))
        except Refused as refused:
            self.tally.count(wire.PROVIDER, "refused", str(refused.status))
            return _error(wire.refusal(refused, request_id))
        except BadSwitch as bad:
            return _error(wire.refusal(Refused(400, str(bad)), request_id))
        fault = wishes.fault or self.switches.strike(wire.PROVIDER, call.model.name)
        answer = brain.answer(call.question(wishes, self.switches))
        if fault is not None and fault.name == "refusal":
            answer, fault = brain.NOTHING, None
        usage = self.switches.usage or wire.usage(call, answer)
        reply = Reply(wire, call, request_id, answer, usage)
        delay_s = self.switches.delay_s() + wishes.delay_s
        if fault is None and not delay_s and not call.stream:
            return self._plain(reply)
        return self._in_time(reply, connection, fault, delay_s)

    def models(self, request: Request, connection: Connection) -> Answer:
        """The models; both providers have this path, and Anthropic's clients name their version."""
        wire: Wire = anthropic_wire if "anthropic-version" in request.headers else openai_wire
        request_id = new_id("req_")
        try:
            wire.check_key(request.headers)
        except Refused as refused:
            return _error(wire.refusal(refused, request_id))
        fault = self.switches.strike(wire.PROVIDER, None)
        self.tally.count(wire.PROVIDER, "models", "answered" if fault is None else fault.name)
        return self._models_in_time(wire, connection, fault, request_id)

    async def _models_in_time(
        self, wire: Wire, connection: Connection, fault: Fault | None, request_id: str
    ) -> None:
        await asyncio.sleep(self.switches.delay_s())
        if fault is None:
            connection.write(_json(wire.models(), headers={wire.REQUEST_ID_HEADER: request_id}))
        else:
            await _unanswered(connection, wire, fault, request_id, streaming=False)

    # --- Answering

    def _plain(self, reply: Reply) -> bytes:
        body = reply.body()
        self._note_answered(reply)
        return head(200, reply.headers, content_type="application/json", length=len(body)) + body

    def _note_answered(self, reply: Reply) -> None:
        self.tally.answer(reply.wire.PROVIDER, reply.call.model.name, reply.request_id, reply.usage)

    async def _in_time(
        self, reply: Reply, connection: Connection, fault: Fault | None, delay_s: float
    ) -> None:
        """The answer after its delay, whole or broken, counted by what became of it."""
        outcome = "abandoned" if fault is None else fault.name
        self.tally.begin()
        try:
            if delay_s:
                await asyncio.sleep(delay_s)
            if fault is not None:
                await self._broken(reply, connection, fault)
            elif reply.call.stream:
                await self._stream(reply.events(), reply, connection)
                self._note_answered(reply)
                return
            else:
                connection.write(self._plain(reply))
                return
        except (asyncio.CancelledError, ConnectionError):
            self.tally.count(reply.wire.PROVIDER, reply.call.model.name, outcome)
            raise
        finally:
            self.tally.end()
        self.tally.count(reply.wire.PROVIDER, reply.call.model.name, outcome)

    async def _stream(
        self, events: list[bytes], reply: Reply, connection: Connection, *, whole: bool = True
    ) -> None:
        """The start of a stream and `events`, with a pause between them, or in one write without.

        A stream that is not `whole` lacks its end, as far as HTTP is concerned.
        """
        connection.write(head(200, reply.headers, content_type=STREAM_TYPE, length=None))
        chunks = [chunk(event) for event in events]
        if whole:
            # With the last event, since clients go when they have read it.
            chunks[-1] += chunk(b"")
        pause_s = self.switches.chunk_delay_ms / 1000
        if not pause_s:
            connection.write(b"".join(chunks))
            return
        for at, data in enumerate(chunks):
            if at:
                await asyncio.sleep(pause_s)
            connection.write(data)

    async def _broken(self, reply: Reply, connection: Connection, fault: Fault) -> None:
        """The answer as far as `fault` lets it come."""
        streaming = reply.call.stream
        if streaming and fault.name == "stream_error":
            events = [*reply.events()[:EVENTS_BEFORE_ERROR], reply.wire.stream_error()]
            await self._stream(events, reply, connection)
        elif streaming and fault.name in ("cut_after_chunk", "truncate"):
            events = reply.events()
            kept = fault.chunks if fault.name == "cut_after_chunk" else len(events) // 2
            await self._stream(events[:kept], reply, connection, whole=False)
            connection.close()
        elif fault.name in ("cut_after_chunk", "truncate"):
            body = reply.body()
            start = head(200, reply.headers, content_type="application/json", length=len(body))
            connection.write(start + body[: len(body) // 2])
            connection.close()
        else:
            await _unanswered(connection, reply.wire, fault, reply.request_id, streaming=streaming)

    # --- The sandbox's own

    def stats(self, request: Request, connection: Connection) -> Answer:
        return _json(self.tally.report(with_answered=request.query.get("answered") != "0"))

    def configuration(self, request: Request, connection: Connection) -> Answer:
        return _json(self.switches.as_json())

    def configure(self, request: Request, connection: Connection) -> Answer:
        """Sets the switches that are named; the others stay."""
        values = _value(request.body)
        try:
            if not isinstance(values, dict):
                raise BadSwitch("The switches are a JSON object.")
            self.switches = self.switches.updated(values)
        except BadSwitch as bad:
            return _json({"error": str(bad)}, status=400)
        return _json(self.switches.as_json())

    def reset(self, request: Request, connection: Connection) -> Answer:
        """Zeroes the counts, but for the calls in flight, and takes back every switch."""
        self.switches = Switches()
        self.tally.reset()
        return _json({})


async def _unanswered(
    connection: Connection, wire: Wire, fault: Fault, request_id: str, *, streaming: bool
) -> None:
    """What comes in place of an answer; on a plain call a `stream_error` is a 500."""
    headers = {wire.REQUEST_ID_HEADER: request_id}
    if fault.name in ERROR_ANSWERS:
        connection.write(_error(wire.failure(fault.name, fault.retry_after, request_id)))
    elif fault.name == "hang":
        await asyncio.sleep(HANG_S_MAX)
    elif fault.name == "trickle":
        await _trickle(connection, wire, headers, streaming=streaming)
    elif fault.name == "malformed":
        body = b'{"id": "broken", "usage": {'
        connection.write(head(200, headers, content_type="application/json", length=len(body)) + body)
    elif fault.name == "reset":
        connection.reset()
    else:
        connection.write(_error(wire.failure("500", None, request_id)))


async def _trickle(
    connection: Connection, wire: Wire, headers: Mapping[str, str], *, streaming: bool
) -> None:
    """Signs of life without content, while the client stays: events, or white space before the JSON."""
    content_type = STREAM_TYPE if streaming else "application/json"
    connection.write(head(200, headers, content_type=content_type, length=None))
    for _ in range(int(HANG_S_MAX / TRICKLE_S)):
        connection.write(chunk(wire.keep_alive() if streaming else b"\n"))
        await asyncio.sleep(TRICKLE_S)


def _json(value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    body = encode(value)
    return head(status, headers or {}, content_type="application/json", length=len(body)) + body


def _error(answer: ErrorAnswer) -> bytes:
    return _json(answer.body, status=answer.status, headers=answer.headers)


def _value(body: bytes) -> Any:
    """`body` as JSON, or None where it is none."""
    try:
        return decode(body)
    except ValueError:
        return None
