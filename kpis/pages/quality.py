"""Whether answers were right as often as the models were sure of them."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kpis.figures import Figure, Words, reliability_diagram
from kpis.pages.page import Page, no_cards
from kpis.readings import Readings


def reliability(read: Readings) -> Figure:
    words = Words(
        *("reliability", _("How often answers were right, by how sure they were"), "reliability"),
        _(
            "It is not known which answers were right: this version of the gateway cannot be told so yet."
            " What you can do today: keep the id of each answer beside what turned out to be right. Once the"
            " gateway takes such feedback, some hundred judged answers will show here whether an answer that"
            " is 80 % sure is right four times out of five."
        ),
    )
    return reliability_diagram(words, [])


PAGE = Page(gettext_lazy("Quality"), no_cards, {"reliability": reliability}, wide=frozenset({"reliability"}))
