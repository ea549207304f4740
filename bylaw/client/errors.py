"""What keeps a caller from being let through, as exceptions.

    Exception
    └── BylawError                  .code  .message  .request_id
        ├── DeniedError             the answer is no                                        .decision  .question
        ├── RefusedError            the question, or who asks it, is wrong: asking again does not help      .status
        └── UnavailableError        there is no answer now                                  .retry_after_s
            ├── TimedOutError       none came in time
            ├── StaleError          facts as fresh as demanded cannot be had
            └── BadAnswerError      what came is no answer of a decision service

So `except BylawError` catches whatever is not an allow. What a library says of a connection is the cause (`__cause__`)
and stands in no message.
"""

from __future__ import annotations

from bylaw.client.model import ANONYMOUS, Decision, Question

#: Of what a service says of an error, so much is taken over.
_MAX_SAID = 500


class BylawError(Exception):
    """There is no allow.

    Args:
        code: why, in one word.
        request_id: by which the service's log knows it; None: it was never asked, or did not say.
    """

    def __init__(self, code: str, message: str, *, request_id: str | None = None) -> None:
        super().__init__(f"{code}: {message}"[:_MAX_SAID])
        self.code = code
        self.message = message[:_MAX_SAID]
        self.request_id = request_id


class DeniedError(BylawError):
    """The answer is no.

    Args:
        question: what was asked; None: nobody said what to ask.
    """

    def __init__(self, decision: Decision, question: Question | None = None) -> None:
        super().__init__(decision.code, decision.because or "this is not allowed")
        self.decision = decision
        self.question = question

    @property
    def is_anonymous(self) -> bool:
        """Say whether nobody in particular asked: to say who one is may help."""
        return self.question is not None and self.question.subject == ANONYMOUS


class RefusedError(BylawError):
    """The question cannot be asked like this, or not by this caller.

    Args:
        status: of the service's answer; None: it was never asked.
    """

    def __init__(self, code: str, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(code, message, request_id=request_id)
        self.status = status


class UnavailableError(BylawError):
    """There is no answer.

    Args:
        retry_after_s: when the service says to come again.
    """

    def __init__(
        self, code: str, message: str, *, retry_after_s: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(code, message, request_id=request_id)
        self.retry_after_s = retry_after_s


class TimedOutError(UnavailableError):
    """No answer came in time."""


class StaleError(UnavailableError):
    """Facts as fresh as demanded cannot be had in time; it says nothing of the question."""


class BadAnswerError(UnavailableError):
    """What came is no answer of a decision service, so it is none at all."""


def bad_question(message: str) -> RefusedError:
    """Make the error of a question that is not even sent."""
    return RefusedError("bad_request", message)


def bad_answer(message: str) -> BadAnswerError:
    """Make the error of an answer that is none."""
    return BadAnswerError("bad_answer", message)
