"""An answer that is given while it comes.

The work runs in a task of its own, so that a client that goes away changes nothing in the books. It sends the
model's words to the course's `Listener`; the view takes them out of the `Live` answer. By its first words it
knows that the answer has begun, and that no error status can follow.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

from aigov.errors import AnswerBroken
from providers.types import Delta, StreamStart, TextDelta, ToolCallDelta
from routing.course import Answer, Completion, Course


class Live:
    """An answer that has begun, or is there already.

    Args:
        course: of the completion under way, which has a listener.
        work: gives the finished completion.
    """

    def __init__(self, course: Course, work: "asyncio.Task[Completion]") -> None:
        assert course.listener is not None
        self.course = course
        self._listener = course.listener
        self._work = work
        self._first: Delta | None = None
        work.add_done_callback(lambda _: self._listener.end())

    async def begin(self) -> StreamStart:
        """Waits for the first piece, or for the end of the work; says which model it is that answers.

        Raises:
            GatewayError: no piece has come, and none will.
        """
        self._first = await self._listener.take()
        if self._first is not None:
            return self.course.stream_start
        answer = (await self.completion()).answer
        return StreamStart(answer.model, answer.usage)

    async def deltas(self) -> AsyncIterator[Delta]:
        """The pieces of the answer as they come; an answer that was there already comes in as few as it has.

        Raises:
            GatewayError: the answer broke off.
        """
        delta = self._first
        while delta is not None:
            yield delta
            delta = await self._listener.take()
        completion = await self.completion()
        if self._listener.gone:
            raise AnswerBroken("The answer was not taken in time.", code="client_too_slow")
        if self._first is None:
            for piece in pieces(completion.answer):
                yield piece

    async def completion(self) -> Completion:
        """The finished completion.

        Raises:
            GatewayError: there is none.
        """
        return await asyncio.shield(self._work)

    def leave(self) -> None:
        """Says that nobody listens any more; without effect after the last piece."""
        self._listener.leave()


def pieces(answer: Answer) -> Iterator[Delta]:
    """A whole answer as a stream gives it."""
    if answer.content:
        yield TextDelta(answer.content, refused=answer.refused, raw_logprobs=answer.logprobs)
    for index, call in enumerate(answer.tool_calls):
        yield ToolCallDelta(index=index, id=call.id, name=call.name, arguments=call.arguments)
