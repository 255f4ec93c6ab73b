"""Server-sent events, as far as the providers use them: the data of each, and no limitless growth."""

from providers.adapters.faults import AnswerTooLarge

EVENT_BYTES_MAX = 4 * 1024 * 1024


class EventDecoder:
    """Takes a stream's bytes, cut anywhere, and gives the data of the events that have come whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that `chunk` completes; comments and events without data are left out.

        Raises:
            AnswerTooLarge: an event is larger than `EVENT_BYTES_MAX`.
        """
        events: list[bytes] = []
        for line in self._lines(chunk):
            if line.startswith(b"data:"):
                self._keep(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line and self._data:
                events.append(b"\n".join(self._data) if len(self._data) > 1 else self._data[0])
                self._data, self._size = [], 0
        return events

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > EVENT_BYTES_MAX:
            raise AnswerTooLarge
        self._data.append(data)

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole; a line that is not, or whose CR may be half of a line's end, waits."""
        text = self._rest + chunk
        if text.endswith(b"\n"):
            self._rest = b""
            return text.splitlines()
        lines = text.splitlines(keepends=True)
        self._rest = lines.pop() if lines else b""
        if len(self._rest) > EVENT_BYTES_MAX:
            raise AnswerTooLarge
        return [line.rstrip(b"\r\n") for line in lines]
