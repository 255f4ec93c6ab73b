"""One call from its request to its answer, and the switches beside it."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from providers.sandbox import anthropic_wire, bills, brain, openai_wire
from providers.sandbox.caching import Cached, PromptCache
from providers.sandbox.metering import Metering
from providers.sandbox.reply import Reply, answer_in_time, as_error, as_json, unanswered, usage_of
from providers.sandbox.server import Answer, Connection, Handler, Request
from providers.sandbox.switches import BadSwitch, Fault, Switches, Wishes
from providers.sandbox.tally import Story, Tally
from providers.sandbox.tokens import decode
from providers.sandbox.wire import Call, Refused, Wire, new_id

FAULT_HEADER = "x-sandbox-fault"
MODELS_PATH = "/v1/models"


class Ports(Protocol):
    """Further ports that lead here, and can be shut (`server`)."""

    async def open(self, port: int) -> int:
        """Listens on `port`, or on a free one where it is 0; returns which. Raises OSError, ValueError."""

    async def shut(self, port: int) -> None:
        """Refuses connections on `port`, and ends those that are there. Raises ValueError."""


class Sandbox:
    """The state between calls: switches, counts, the prompt cache. Called with a request, it answers."""

    def __init__(self, ports: Ports | None = None) -> None:
        self.switches = Switches()
        self.tally = Tally()
        self.cache = PromptCache()
        self.ports = ports
        self.routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): partial(self.completion, wire=openai_wire),
            ("POST", "/v1/messages"): partial(self.completion, wire=anthropic_wire),
            ("GET", MODELS_PATH): self.models,
            ("GET", "/v1/organization/costs"): partial(
                self.report, wire=openai_wire, write=bills.openai_costs
            ),
            ("GET", "/v1/organization/usage/completions"): partial(
                self.report, wire=openai_wire, write=bills.openai_usage
            ),
            ("GET", "/v1/organizations/cost_report"): partial(
                self.report, wire=anthropic_wire, write=bills.anthropic_costs
            ),
            ("GET", "/v1/organizations/usage_report/messages"): partial(
                self.report, wire=anthropic_wire, write=bills.anthropic_usage
            ),
            ("GET", "/sandbox/stats"): self.stats,
            ("GET", "/sandbox/config"): self.configuration,
            ("POST", "/sandbox/config"): self.configure,
            ("POST", "/sandbox/ports"): self.change_ports,
            ("POST", "/sandbox/usage"): self.add_usage,
            ("POST", "/sandbox/reset"): self.reset,
        }

    def __call__(self, request: Request, connection: Connection) -> Answer:
        route = self.routes.get((request.method, request.path))
        if route is None and request.method == "GET" and request.path.startswith(f"{MODELS_PATH}/"):
            route = self.models
        if route is None:
            return as_json({"error": {"message": f"No such path: {request.path}"}}, status=404)
        return route(request, connection)

    # --- The providers' endpoints

    def completion(self, request: Request, connection: Connection, *, wire: Wire) -> Answer:
        """A completion, in either wire format."""
        request_id = new_id("req_")
        story = Story(wire.PROVIDER, "refused", request_id, stream=False)
        try:
            wire.check_key(request.headers)
            call = wire.read(_value(request.body))
            wishes = call.wishes(request.headers.get(FAULT_HEADER))
            questions = call.questions(wishes, self.switches)
        except (Refused, BadSwitch) as error:
            refused = error if isinstance(error, Refused) else Refused(400, str(error))
            self.tally.fail(story, str(refused.status), None, gone=False)
            return as_error(wire.refusal(refused, request_id))
        story.model, story.stream, story.service_tier = call.model.name, call.stream, call.service_tier
        fault = wishes.fault or self.switches.strike(wire.PROVIDER, call.model.name, stream=call.stream)
        answers = [brain.answer(question) for question in questions]
        if fault is not None and fault.name == "refusal":
            answers, fault = [brain.NOTHING for _ in answers], None
        cached = self._cached(call, wishes)
        reply = Reply(
            wire=wire,
            call=call,
            story=story,
            answers=answers,
            cached=cached,
            usage=self.switches.usage or usage_of(wire, call, answers, cached),
            fault=fault,
            delay_s=self.switches.delay_s() + wishes.delay_s,
            ttft_s=self.switches.ttft_ms / 1000 if wishes.ttft_s is None else wishes.ttft_s,
            pause_s=self._pause_s(fault, wishes),
        )
        if fault is None and not reply.delay_s and not call.stream:
            answer = reply.plain()
            self.tally.answer(story, reply.usage)
            return answer
        return answer_in_time(reply, connection, self.tally)

    def _cached(self, call: Call, wishes: Wishes) -> Cached:
        """What of the prompt the cache reads and writes; a marker may say how much it reads."""
        if wishes.cached is not None:
            return Cached(read=min(wishes.cached, call.input_tokens))
        if not call.segments:
            return Cached()
        least = self.switches.cache_tokens_min
        return self.cache.use(
            call.model.snapshot,
            call.segments,
            least=call.segments_least if least is None else least,
            most=call.input_tokens,
        )

    def _pause_s(self, fault: Fault | None, wishes: Wishes) -> float:
        """How long lies between the chunks of a stream."""
        if fault is not None and fault.name == "slow":
            return fault.number / 1000
        return self.switches.chunk_delay_ms / 1000 if wishes.pause_s is None else wishes.pause_s

    def models(self, request: Request, connection: Connection) -> Answer:
        """The models, or one; both providers have these paths, and Anthropic's clients name their version."""
        wire: Wire = anthropic_wire if "anthropic-version" in request.headers else openai_wire
        request_id = new_id("req_")
        name = request.path.removeprefix(MODELS_PATH).removeprefix("/")
        try:
            wire.check_key(request.headers)
            listed = wire.model(name) if name else wire.models(request.query)
        except Refused as refused:
            return as_error(wire.refusal(refused, request_id))
        fault = self.switches.strike(wire.PROVIDER, None)
        self.tally.count(wire.PROVIDER, "models", "answered" if fault is None else fault.name)
        return self._listed_in_time(wire, connection, fault, request_id, listed)

    def report(
        self,
        request: Request,
        connection: Connection,
        *,
        wire: Wire,
        write: Callable[[Request, Metering, Switches], Mapping[str, Any]],
    ) -> Answer:
        """A bill, or a report of what was used; only for those with an admin key."""
        request_id = new_id("req_")
        try:
            wire.check_key(request.headers)
            _check_admin_key(request.headers)
            written = write(request, self.tally.metering, self.switches)
        except Refused as refused:
            return as_error(wire.refusal(refused, request_id))
        fault = self.switches.strike(wire.PROVIDER, None)
        self.tally.count(wire.PROVIDER, "bills", "answered" if fault is None else fault.name)
        return self._listed_in_time(wire, connection, fault, request_id, written)

    async def _listed_in_time(
        self,
        wire: Wire,
        connection: Connection,
        fault: Fault | None,
        request_id: str,
        listed: Mapping[str, Any],
    ) -> None:
        await asyncio.sleep(self.switches.delay_s())
        if fault is None:
            connection.write(as_json(listed, headers={wire.REQUEST_ID_HEADER: request_id}))
        else:
            await unanswered(connection, wire, fault, request_id, streaming=False)

    # --- The sandbox's own

    def stats(self, request: Request, connection: Connection) -> Answer:
        return as_json(self.tally.report(with_rows=request.query.get("answered") != "0"))

    def configuration(self, request: Request, connection: Connection) -> Answer:
        return as_json(self.switches.as_json())

    def configure(self, request: Request, connection: Connection) -> Answer:
        """Sets the switches that are named; the others stay."""
        values = _value(request.body)
        try:
            if not isinstance(values, dict):
                raise BadSwitch("The switches are a JSON object.")
            self.switches = self.switches.updated(values)
        except BadSwitch as bad:
            return as_json({"error": str(bad)}, status=400)
        return as_json(self.switches.as_json())

    def change_ports(self, request: Request, connection: Connection) -> Answer:
        """Opens a further port, or shuts one: `{"port": 0, "open": true}`."""
        return self._change_ports(_value(request.body), connection)

    async def _change_ports(self, value: Any, connection: Connection) -> None:
        port = value.get("port", 0) if isinstance(value, dict) else None
        opened = isinstance(value, dict) and value.get("open") is not False
        try:
            if self.ports is None or type(port) is not int:
                raise ValueError("There is no such port.")
            if opened:
                port = await self.ports.open(port)
            else:
                await self.ports.shut(port)
        except (ValueError, OSError) as error:
            connection.write(as_json({"error": str(error)}, status=400))
            return
        connection.write(as_json({"port": port, "open": opened}))

    def add_usage(self, request: Request, connection: Connection) -> Answer:
        """Bills calls that were made elsewhere: `[{"provider", "model", "at", "usage", "service_tier"}]`."""
        try:
            self.tally.metering.note_past(_value(request.body))
        except BadSwitch as bad:
            return as_json({"error": str(bad)}, status=400)
        return as_json({})

    def reset(self, request: Request, connection: Connection) -> Answer:
        """Zeroes counts and bills, but for calls in flight, takes back every switch, empties the cache."""
        self.switches = Switches()
        self.tally.reset()
        self.cache.reset()
        return as_json({})


def _check_admin_key(headers: Mapping[str, str]) -> None:
    """The providers' admin keys begin with sk-admin- and sk-ant-admin; no other key opens a bill."""
    if "admin" not in headers.get("x-api-key", headers.get("authorization", "")):
        raise Refused(401, "This endpoint requires an admin API key.", code="invalid_api_key")


def _value(body: bytes) -> Any:
    """`body` as JSON, or None where it is none."""
    try:
        return decode(body)
    except ValueError:
        return None
