"""From a provider's reply to an answer of ours: is it what was asked for, and how sure was its model?"""

from providers.types import ProviderReply
from routing.confidence.calibration import confidence_of
from routing.confidence.signals import match_label, signals_of
from routing.course import Answer, Attempt, Course


def judge(course: Course, attempt: Attempt, reply: ProviderReply) -> Answer:
    """The answer that `reply` is; notes on the attempt what speaks for it."""
    prompt = course.request.prompt
    signals = signals_of(reply, labels=prompt.labels, response_schema=prompt.response_schema)
    confidence, method = confidence_of(signals)
    attempt.outcome, attempt.signals, attempt.confidence = "accepted", signals, confidence
    label = match_label(reply.content, prompt.labels) if prompt.labels else None
    return Answer(
        content=label or reply.content,
        parsed=reply.parsed,
        tier=attempt.candidate.tier,
        provider=attempt.candidate.provider,
        model=attempt.candidate.model,
        confidence=confidence,
        confidence_method=method,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        tool_calls=reply.tool_calls,
        refused=reply.refused,
        stop_sequence=reply.stop_sequence,
        logprobs=reply.raw_logprobs,
    )
