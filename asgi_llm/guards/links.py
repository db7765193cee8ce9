"""Links and images in an answer that carry data to hosts of others.

A model that was talked into it writes ``![](https://host/x?q=<the conversation>)``, and whoever
shows the answer fetches the image, without a click.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import unquote, urlsplit

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards._randomness import entropy
from asgi_llm.guards.patterns import Candidate, PatternGuard, Rule

__all__ = ["LinksGuard"]

_LONG: Final = 24
_URL: Final = r"(?i:https?:)?(?://|\\\\)[^\s<>\"'()\[\]{}]+"


class LinksGuard(PatternGuard):
    """Finds images and links that lead to hosts that are not allowed.

    An image is found whatever its address, for it is fetched by itself; a link only if its address
    carries data: a long query, fragment or path segment, or one that looks random.

    Args:
        allowed_hosts: Hosts that may be named, each with the hosts below it.
        all_links: Find every link to another host, also without data.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: A host is wrong, or google-re2 is not installed.
    """

    def __init__(
        self,
        *,
        allowed_hosts: Collection[str] = (),
        all_links: bool = False,
        name: str = "links",
    ) -> None:
        if isinstance(allowed_hosts, str) or any(
            not host or "/" in host or ":" in host for host in allowed_hosts
        ):
            raise ConfigurationError(
                "allowed_hosts must be a list of names of hosts", param="allowed_hosts"
            )
        self._allowed = tuple(host.lower().lstrip(".") for host in allowed_hosts)
        self._all = all_links
        image = rf"!\[[^\]\n]{{0,300}}\]\(\s{{0,8}}<?(?P<value>{_URL})"
        html = (
            r"(?i)<(?:img|iframe|video|audio|source|embed|object|link|script)\b[^>\n]{0,200}?"
            rf"(?:src|href|data|poster)\s{{0,4}}=\s{{0,4}}[\"']?(?P<value>{_URL})"
        )
        style = rf"(?i)url\(\s{{0,4}}[\"']?(?P<value>{_URL})"
        reference = rf"(?m)^\s{{0,3}}\[[^\]\n]{{1,100}}\]:\s{{0,8}}<?(?P<value>{_URL})"
        rules = [
            Rule(
                category=category,
                pattern=pattern,
                confirm=confirm,
                max_length=400,
                open_ended=True,
                reason=reason,
            )
            for category, pattern, confirm, reason in (
                ("exfiltration.image", image, self._image, "an image of a foreign host"),
                ("exfiltration.image", html, self._image, "an element of a foreign host"),
                ("exfiltration.image", style, self._image, "a style of a foreign host"),
                ("exfiltration.link", reference, self._link, "a link that carries data"),
                (
                    "exfiltration.link",
                    r"\b(?P<value>(?i:https?:)//[^\s<>\"'()\[\]{}]+)",
                    self._link,
                    "a link that carries data",
                ),
            )
        ]
        super().__init__(name, rules, unfinished=r"(?:!\[|<[a-zA-Z]|https?:/)\S*")

    def _image(self, candidate: Candidate) -> float:
        return 0.0 if self._is_allowed(candidate.value) else 0.9

    def _link(self, candidate: Candidate) -> float:
        url = candidate.value
        if self._is_allowed(url):
            return 0.0
        return 0.9 if self._all or _carries_data(url) else 0.0

    def _is_allowed(self, url: str) -> bool:
        try:
            host = (urlsplit(url.replace("\\", "/")).hostname or "").rstrip(".")
        except ValueError:
            return False
        return any(host == one or host.endswith("." + one) for one in self._allowed)


def _carries_data(url: str) -> bool:
    """Whether an address holds more than a place: a long value, or one that looks random."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    values = [pair.partition("=")[2] or pair for pair in parts.query.split("&")]
    values += [parts.fragment, *(parts.hostname or "").split(".")]
    if any(_is_data(unquote(value)) for value in values):
        return True
    return any(
        len(segment) >= 2 * _LONG and _is_data(unquote(segment))
        for segment in parts.path.split("/")
    )


def _is_data(value: str) -> bool:
    if len(value) < _LONG:
        return False
    # Words with hyphens name a page; words with spaces and long random ones are data.
    return " " in value or "+" in value or ("-" not in value and entropy(value) > 3.3)
