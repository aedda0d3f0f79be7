"""Lists that are longer than a page."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

PAGE_SIZE = 200


class Page(Protocol):
    """The answer of a List RPC."""

    next_page_token: str


class PageRequest(Protocol):
    """The request of a List RPC."""

    page_size: int
    page_token: str


Request = TypeVar("Request", bound=PageRequest)
Answer = TypeVar("Answer", bound=Page)


async def all_pages(call: Callable[[Request], Awaitable[Answer]], request: Request) -> list[Answer]:
    """Return all pages of a list. The request's page fields are set anew."""
    request.page_size, request.page_token = PAGE_SIZE, ""
    pages: list[Answer] = []
    while True:
        pages.append(await call(request))
        request.page_token = pages[-1].next_page_token
        if not request.page_token:
            return pages
