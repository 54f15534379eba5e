"""Errors as they are stored: bounded, without passwords, with the frames of user code only."""

from __future__ import annotations

from taskflow.errors import StepError
from taskflow.observability.failures import MAX_CHARS, Raised, describe_error, stack_of, storable, text_of
from taskflow.retries import Retries


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


def test_long_texts_are_cut_with_a_mark_and_the_frames_stay() -> None:
    told = describe_error(caught(ValueError("x" * 1_000_000)))
    assert told["message"].endswith("… (cut: 1,000,000 characters)")
    assert len(told["message"]) < MAX_CHARS + 50
    assert "in caught" in told["stack"]
    assert len(told["stack"]) < MAX_CHARS
    assert storable("a" * 20_000 + "end", keep_end=True).startswith("… (cut: 20,003 characters)\n")


def test_passwords_in_urls_are_never_stored() -> None:
    told = describe_error(
        caught(OSError("no answer from redis://user:s3cret@db:6379/0 and amqp://me:pw2@mq//"))
    )
    for text in told.values():
        assert "s3cret" not in text
        assert "pw2" not in text
    assert "db:6379" in told["message"]


def test_frames_of_ours_are_left_out() -> None:
    def user_code() -> None:
        Retries(attempts=-1)

    try:
        user_code()
    except Exception as error:
        stack = stack_of(error)
    assert "in user_code" in stack
    assert "taskflow/retries.py" not in stack
    assert stack.rstrip().splitlines()[-1].startswith("taskflow.errors.ConfigError: ")


def test_causes_and_groups_are_told() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ExceptionGroup("outer", [ValueError("one"), TypeError("two")]) from error
    except ExceptionGroup as group:
        stack = stack_of(group)
    for part in ("KeyError: 'inner'", "direct cause", "outer", "ValueError: one", "TypeError: two"):
        assert part in stack


def test_an_endless_chain_ends() -> None:
    error = caught(ValueError("0"))
    for number in range(1, 500):
        outer = caught(ValueError(str(number)))
        outer.__cause__ = error
        error = outer
    assert stack_of(error).startswith("(and more)")


def test_half_characters_and_errors_without_text_can_be_stored() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert storable("caf\udce9") == "caf\\udce9"
    assert text_of(Mute()) == "(str() of this Mute raised SystemExit)"
    assert describe_error(caught(Mute()))["name"] == "Mute"


def test_what_is_carried_is_told_as_what_it_was() -> None:
    told = describe_error(caught(Raised(caught(StopIteration("done")))))
    assert (told["name"], told["message"]) == ("StopIteration", "done")
    assert describe_error(StepError("no", name="KeyError", stack="its own"))["stack"] == "its own"
