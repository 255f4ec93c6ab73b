"""From raw signals to a confidence between 0 and 1: pure.

Nothing is known yet to calibrate with, so the raw signal is the confidence, and says so in its method.
"""

from math import exp

from routing.confidence.signals import Signals


def confidence_of(signals: Signals) -> tuple[float | None, str]:
    """The confidence in an answer, and the method by which it was found.

    The label's probability for labels, else exp of the mean token log-probability, else what the model says
    of itself. An answer that fails a validator has confidence 0; without any signal it is None.
    """
    if signals.failed_check is not None:
        return 0.0, f"failed_check:{signals.failed_check}"
    if signals.label_probability is not None:
        return signals.label_probability, "uncalibrated:label_probability"
    if signals.mean_logprob is not None:
        return min(exp(signals.mean_logprob), 1.0), "uncalibrated:mean_logprob"
    if signals.verbalized is not None:
        return signals.verbalized, "uncalibrated:verbalized"
    return None, "none"
