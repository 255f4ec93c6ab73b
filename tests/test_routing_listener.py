"""The channel to one client: bounded, and never the reason that a paid answer is lost."""

import asyncio

import pytest

from providers.types import TextDelta
from routing import listener
from routing.listener import Listener

LONG_S = 60.0


def soon(wait_s: float = LONG_S) -> float:
    return asyncio.get_running_loop().time() + wait_s


def word(number: int) -> TextDelta:
    return TextDelta(str(number))


async def test_pieces_come_in_their_order_and_then_nothing() -> None:
    channel = Listener()
    for number in range(3):
        await channel.send(word(number), until=soon())
    channel.end()
    assert [await channel.take() for _ in range(4)] == [word(0), word(1), word(2), None]


async def test_a_slow_client_holds_its_model_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PIECES_WAITING_MAX", 2)
    channel = Listener()
    await channel.send(word(0), until=soon())
    sending = asyncio.create_task(channel.send(word(1), until=soon()))
    await asyncio.sleep(0.05)
    assert not sending.done()
    assert await channel.take() == word(0)
    await sending


async def test_a_client_that_is_too_slow_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PIECES_WAITING_MAX", 1)
    channel = Listener()
    await channel.send(word(0), until=soon(0.01))
    assert channel.gone
    await channel.send(word(1), until=soon())  # at once, and to nobody


async def test_who_leaves_lets_go_of_the_model_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PIECES_WAITING_MAX", 1)
    channel = Listener()
    sending = asyncio.create_task(channel.send(word(0), until=soon()))
    await asyncio.sleep(0)
    channel.leave()
    await sending


async def test_the_rest_of_an_answer_has_a_little_time_once_its_client_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "DRAIN_S", 0.02)
    channel = Listener()
    with pytest.raises(TimeoutError):
        async with channel.patience():
            channel.leave()
            await asyncio.sleep(LONG_S)
    with pytest.raises(TimeoutError):
        async with channel.patience():
            await asyncio.sleep(LONG_S)


async def test_while_the_client_listens_there_is_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "DRAIN_S", 0.0)
    channel = Listener()
    async with channel.patience():
        await asyncio.sleep(0.05)
