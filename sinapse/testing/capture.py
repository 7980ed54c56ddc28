"""Capture messages instead of publishing them: in a block, or in a function."""

import functools
import inspect
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from sinapse.publisher.operations import standin
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.testing.memory import Memory
from sinapse.testing.messages import ANY, Anything, Expectation, Messages, Publication

P = ParamSpec("P")
R = TypeVar("R")


class _Block:
    """A ``with`` block, or a decorator for functions and coroutine functions.

    A decorated function begins anew with every call. What is called once, and runs later or never,
    as classes and generators, is refused.
    """

    def __enter__(self) -> Any:
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    def _anew(self) -> Self:
        raise NotImplementedError

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` so that it runs within such a block.

        Raises ``TypeError`` for a class, and for a function with ``yield``.
        """
        name = type(self).__name__
        if isinstance(function, type):
            raise TypeError(
                f"@{name}() is for functions, not for the class {function.__name__}: decorate its "
                "methods, or let it have SinapseTestMixin"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"@{name}() would end before {function.__name__} begins, which is a generator: "
                f"write 'with {name}():' in it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_coroutine(*values: P.args, **options: P.kwargs) -> Any:
                with self._anew():
                    return await function(*values, **options)

            return cast(Callable[P, R], run_coroutine)

        @functools.wraps(function)
        def run(*values: P.args, **options: P.kwargs) -> R:
            with self._anew():
                return function(*values, **options)

        return run


class capture(_Block):  # noqa: N801  # It is used like a function.
    """Capture messages of all publishers of this process, in all its threads.

    ``with capture() as messages`` gives :class:`~sinapse.testing.messages.Messages`; a function
    that is decorated with ``@capture()`` gets them from :func:`captured`. Nothing is sent, and no
    Redis is needed. Tokens, sessions, groups and lists of channels are empty at first and are
    forgotten at the end.
    `nodes` is what ``publish`` returns. If blocks are nested, the inner one has the messages.
    """

    def __init__(self, *, nodes: int = 1) -> None:
        self._nodes = nodes
        self._memory = Memory(nodes)

    def __enter__(self) -> Messages:
        self._memory = Memory(self._nodes)
        standin.begin(self._memory)
        return self._memory.messages

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        standin.end(self._memory)

    def _anew(self) -> Self:
        return type(self)(nodes=self._nodes)


def captured() -> Messages:
    """Return the messages of the capture that one is in; raises ``RuntimeError`` outside of any."""
    memory = standin.current()
    if not isinstance(memory, Memory):
        raise RuntimeError(  # noqa: TRY004  # It is not about a type.
            "nothing is captured here: use capture(), or sinapse_messages"
        )
    return memory.messages


class assert_publishes(_Block):  # noqa: N801  # It is used like a function.
    """Expect so many messages in a block, or in a function, and capture them.

    Without a number one or more are expected. The rest is as in
    :meth:`~sinapse.testing.messages.Messages.assert_published`. In a block that captures already,
    its messages are that one's too. An exception of the block comes before any expectation.
    """

    def __init__(
        self,
        count: int | None = None,
        *,
        channel: ChannelLike | Anything = ANY,
        event: str | Anything | None = ANY,
        message: object = ANY,
    ) -> None:
        self._expectation = Expectation(count, channel, event, message)
        self._capture: capture | None = None
        self._messages: Sequence[Publication] = ()
        self._start = 0

    def __enter__(self) -> Messages:
        self._capture = None
        if standin.current() is None:
            self._capture = capture()
            messages = self._capture.__enter__()
        else:
            messages = captured()
        self._messages = messages
        self._start = len(messages)
        return messages

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._capture is not None:
            self._capture.__exit__(kind, error, traceback)
        if error is None:
            self._expectation.check(self._messages[self._start :])

    def _anew(self) -> Self:
        another = type(self).__new__(type(self))
        another.__dict__.update(self.__dict__)
        return another


class refute_publishes(assert_publishes):  # noqa: N801  # It is used like a function.
    """Expect no message in a block, or no message that matches."""

    def __init__(
        self,
        *,
        channel: ChannelLike | Anything = ANY,
        event: str | Anything | None = ANY,
        message: object = ANY,
    ) -> None:
        super().__init__(0, channel=channel, event=event, message=message)
