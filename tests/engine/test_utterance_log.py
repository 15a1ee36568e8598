"""The line about an utterance, and the trace context it is found by."""

from tests.engine.test_metrics import outcome
from tts_engine import EngineFailed, InvalidRequest, Outcome, Speak, Trace, ended_line, refused_line

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{PARENT}-01"


def test_the_trace_comes_from_the_standard_header() -> None:
    assert Trace.read({"traceparent": HEADER, "other": 1}) == Trace(TRACE, PARENT)
    assert Trace.read({"Traceparent": HEADER}) == Trace(TRACE, PARENT)
    assert Trace.read({"traceparent": f"cc-{TRACE}-{PARENT}-01-what-comes-later"}) == Trace(TRACE, PARENT)


def test_a_header_that_breaks_the_standard_is_none() -> None:
    broken = ["", "x", HEADER.upper(), HEADER[:-1], f"ff{HEADER[2:]}", f"00-{'0' * 32}-{PARENT}-01"]
    broken += [f"00-{TRACE}-{'0' * 16}-01", f"{HEADER}\nreason=complete"]
    assert [Trace.read({"traceparent": header}) for header in broken] == [None] * len(broken)
    assert Trace.read({}) is None


def test_the_line_says_how_it_ended_and_what_it_took() -> None:
    line = ended_line(outcome(), Speak(text="secret words"), Trace(TRACE, PARENT))
    assert line == (
        f"utterance trace={TRACE} parent={PARENT} utterance=null voice=null reason=complete error=null frames=25 "
        "queue_s=1.0 first_audio_s=1.5 total_s=2.0 rtf=0.5"
    )


def test_a_name_with_blanks_does_not_break_the_line_apart() -> None:
    told = outcome("failed")
    failed = Outcome("failed", {**told.info, "voice": 'a "b" reason=complete\n'}, EngineFailed("gone"))
    line = ended_line(failed, Speak(text="", utterance="u.1:2"), None)
    assert 'utterance=u.1:2 voice="a \\"b\\" reason=complete\\n" reason=failed error=EngineFailed' in line
    assert "\n" not in line


def test_a_refusal_has_a_line_too() -> None:
    line = refused_line(InvalidRequest("text is missing"), None)
    assert line == 'refused trace=null parent=null error=InvalidRequest message="text is missing"'
