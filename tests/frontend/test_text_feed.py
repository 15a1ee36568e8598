"""Text on its way to the model: openings, the rest behind them, flushes and the end."""

import asyncio

from frontend.text_feed import FlushPoint, TextFeed


async def test_what_has_gathered_is_one_opening() -> None:
    feed = TextFeed(" ")
    feed.append("Hel")
    feed.append("lo")
    assert await feed.opening() == " Hello"
    assert (feed.taken, feed.text) == (6, " Hello")


async def test_the_rest_ends_at_a_flush_and_goes_on_behind_it() -> None:
    feed = TextFeed("One")
    opening, rest = await feed.opening(), feed.rest()
    feed.append(".")
    feed.flush()
    feed.append("Two")
    feed.end()
    assert opening == "One"
    assert [text async for text in rest] == ["."]
    assert rest.flush == FlushPoint(1)
    assert await feed.opening() == "Two"
    rest = feed.rest()
    assert [text async for text in rest] == []
    assert (rest.over, rest.flush) == (True, None)


async def test_a_flush_behind_blank_text_has_nothing_to_speak() -> None:
    feed = TextFeed(" \n")
    feed.flush()
    feed.end()
    assert await feed.opening() == FlushPoint(1)
    assert await feed.opening() is None


async def test_who_waits_on_a_closed_rest_takes_nothing_from_the_next() -> None:
    feed = TextFeed("One")
    await feed.opening()
    old = feed.rest()
    feed.append(" more")
    assert await anext(old) == " more"
    waiting = asyncio.ensure_future(anext(old, None))
    await asyncio.sleep(0)
    new = old.again()
    feed.append(" and more")
    assert await anext(new) == " and more"
    feed.end()
    assert await waiting is None
    assert old.said == " more"
    assert [text async for text in new] == []
