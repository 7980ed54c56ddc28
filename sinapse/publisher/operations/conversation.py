"""The commands of operations and their results: a conversation, without the I/O."""

from collections.abc import Generator, Sequence
from typing import Any

from sinapse.errors import Incomplete, SinapseError
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.scripts import Script
from sinapse.publisher.operations.messages import Publish, PublishAll, PublishPlain, PublishTogether
from sinapse.publisher.operations.operation import (
    Command,
    Lost,
    Operation,
    Refused,
    Request,
    unavailable,
)

#: Messages, and characters of their data, that one call of a script may publish. It blocks Redis
#: for some 1.3 milliseconds, if they are retained.
MAX_MESSAGES_PER_CALL = 200
MAX_DATA_PER_CALL = 256 * 1024

#: How Redis 6.2, 7 and Valkey report that the ACL denies a command of a script. It is the only
#: failure of our scripts that can come after a first write.
_DENIED_IN_SCRIPT = ("executing the script can't", "ACL failure in script")

#: How they report that the ACL denies a key of a command, before it begins.
_OF_ONE = ("permissions to access",)

#: An operation, and the places of the given ones that it stands for.
_Call = tuple[Sequence[int], Operation[Any]]


def converse(
    url: RedisURL, operations: Sequence[Operation[Any]], known: set[Script] | None = None
) -> Generator[list[Command], list[Any], list[Any]]:
    """Yield commands to send together, take their answers, and return the result of each operation.

    In place of an answer there can be :class:`~sinapse.publisher.operations.operation.Refused` or
    :class:`~sinapse.publisher.operations.operation.Lost`, and in place of a result
    :class:`~sinapse.errors.BrokerUnavailable`. A command that Redis may have carried out is not
    sent again. One call publishes messages of one kind that follow each other. Of several calls,
    each script is sent whole the first time, so that none has to be sent again, out of order,
    because Redis does not know it yet.

    If more commands can follow on the connection before the answers, they must do the same: `known`
    are the scripts that were sent on it; this function keeps it up to date. Calls of known scripts
    are then short: if Redis has forgotten them, it refuses all, and they are sent again in order.
    """
    results: list[Any] = [None] * len(operations)
    waiting = _calls(operations)
    while waiting:
        if len(waiting) == 1:
            request = waiting[0][1].request(url.names)
            answers = yield [request.short()] if known is None else _introduced([request], known)
            if type(answers[0]) is Refused and answers[0].is_unknown_script:
                if known is not None:
                    known.clear()  # Redis forgets all scripts together.
                answers = yield [request.whole()]
        else:
            answers = yield from _ask_all(
                [operation.request(url.names) for _, operation in waiting], known
            )
        further: list[_Call] = []
        for (places, operation), answer in zip(waiting, answers, strict=True):
            result = _failure(url, operation, answer) or operation.result(answer)
            if alone := _alone(places, operation, answer):
                further += alone
            elif isinstance(result, Operation):
                further.append((places, result))
            else:
                _note(url, results, places, operation, result)
        waiting = further
    return results


def _alone(places: Sequence[int], operation: Operation[Any], answer: object) -> list[_Call]:
    """Return the calls of each message, if only one of them may be why Redis has refused all.

    Nothing was written then.
    """
    if type(answer) is not Refused or not isinstance(operation, PublishTogether):
        return []
    if _is_denied(answer.text) or not any(part in answer.text for part in _OF_ONE):
        return []
    return [((place,), message) for place, message in zip(places, operation.messages, strict=True)]


def _note(
    url: RedisURL, results: list[Any], places: Sequence[int], operation: Operation[Any], result: Any
) -> None:
    if isinstance(operation, PublishTogether) and isinstance(result, list):
        for place, message, each in zip(places, operation.messages, result, strict=True):
            results[place] = _outcome(url, _explained(url, message, each))
    else:
        for place in places:
            results[place] = _outcome(url, result)


def _calls(operations: Sequence[Operation[Any]]) -> list[_Call]:
    """Return the operations, with messages of one kind that follow each other joined."""
    if len(operations) == 1:
        return [((0,), operations[0])]
    calls: list[_Call] = []
    joined: list[Publish] = []

    def join(end: int) -> None:
        if joined:
            operation = joined[0] if len(joined) == 1 else _together(joined[0])(tuple(joined))
            calls.append((range(end - len(joined), end), operation))
            joined.clear()

    data = 0
    for place, operation in enumerate(operations):
        if type(operation) is Publish and (operation.retain or operation.message_id is None):
            is_other = joined and _together(joined[0]) is not _together(operation)
            if is_other or len(joined) == MAX_MESSAGES_PER_CALL or data > MAX_DATA_PER_CALL:
                join(place)
            data = len(operation.message.data) + (data if joined else 0)
            joined.append(operation)
        else:
            join(place)
            calls.append(((place,), operation))
    join(len(operations))
    return calls


def _ask_all(
    requests: Sequence[Request], known: set[Script] | None
) -> Generator[list[Command], list[Any], list[Any]]:
    """Yield several commands, and return the answers."""
    scripts = {request.script for request in requests if request.script is not None}
    if known is None or not scripts <= known:
        # With an empty set: Redis can have forgotten the known scripts meanwhile.
        answers = yield _introduced(requests, set())
        if known is not None:
            known |= scripts
        return answers
    # Short as those under way: if Redis has forgotten the scripts, none of these overtakes them.
    answers = list((yield _introduced(requests, known)))
    places = [
        place
        for place, answer in enumerate(answers)
        if type(answer) is Refused and answer.is_unknown_script
    ]
    if places:
        known.clear()
        again = yield _introduced([requests[place] for place in places], set())
        for place, answer in zip(places, again, strict=True):
            answers[place] = answer
        known |= scripts
    return answers


def _introduced(requests: Sequence[Request], known: set[Script]) -> list[Command]:
    commands = []
    for request in requests:
        if request.script is None or request.script in known:
            commands.append(request.short())
        else:
            commands.append(request.whole())
            known.add(request.script)
    return commands


def _together(message: Publish) -> type[PublishTogether]:
    return PublishAll if message.retain else PublishPlain


def _failure(url: RedisURL, operation: Operation[Any], answer: object) -> Refused | Lost | None:
    """Return the failure that is in the place of an answer, or None."""
    if type(answer) is Refused:
        if _is_denied(answer.text):
            return Lost(answer.text)
        return Refused(operation.request(url.names).refused(answer.text, url.names))
    return answer if isinstance(answer, Lost) else None


def is_denial(text: str) -> bool:
    """Whether a refusal says that the ACL denies a key or a channel: others may be allowed."""
    return _is_denied(text) or any(part in text for part in _OF_ONE)


def _is_denied(text: str) -> bool:
    return any(part in text for part in _DENIED_IN_SCRIPT)


def _explained(url: RedisURL, message: Publish, result: Any) -> Any:
    """Return the result of a message; if it was refused, with the key that may be the cause."""
    if type(result) is not Refused:
        return result
    if message.retain and _is_denied(result.text):
        return Lost(result.text)  # It may be retained.
    return Refused(
        url.names.of_another_type(result.text, [url.names.retained_key(message.channel)])
    )


def _outcome(url: RedisURL, result: Any) -> Any:
    if type(result) is Lost:
        error = unavailable(url, result.text, delivered=None)
        error.__cause__ = result.cause
        return error
    if type(result) is Refused:
        return unavailable(url, result.text, delivered=False)
    return result


def complete(results: list[Any]) -> list[Any]:
    """Return `results`; raises :class:`~sinapse.errors.Incomplete` if there are failures."""
    if any(isinstance(each, SinapseError) for each in results):
        raise Incomplete(results)
    return results
