"""The pages under /kpis/, in the order of their navigation: what each is made of, not how it looks."""

from collections.abc import Mapping

from kpis.pages import business, cache, overview, quality, reliability, routing, usage
from kpis.pages.page import Page

PAGES: Mapping[str, Page] = {
    "overview": overview.PAGE,
    "business": business.PAGE,
    "routing": routing.PAGE,
    "quality": quality.PAGE,
    "reliability": reliability.PAGE,
    "cache": cache.PAGE,
    "usage": usage.PAGE,
}

__all__ = ["PAGES", "Page"]
