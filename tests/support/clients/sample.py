"""What a sample is: the text as its page prints it, how it is run here, and what has to come of it.

The pages, by number: 000 and 001 "Submitting Jobs" (001 with all languages), 002 and 003 "Python Platform SDK", 004
FairStack's "Jobs API". Not about running one (running.py) nor about which there are (samples/).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[Any], bool]  # Any: decoded JSON


@dataclass(frozen=True)
class Python:
    """The text itself, by the flat client, with `FabricClient()` led to the router. What comes of it: the last value, or
    what was printed.

    given: code before it, for what the page has made above. then: code after it, for what the text does in silence.
    laid_out: the text with the line ends and the indentation that its page has lost, where Python needs them.
    instead: what runs in its place; for a text that is no code. prints: it has no end, and is left after so many.
    """

    given: str = ""
    then: str = ""
    laid_out: str = ""
    instead: str = ""
    prints: int | None = None


@dataclass(frozen=True)
class Curl:
    """The text itself, by curl. What comes of it: the answer's data, or the events.

    on_a_waiting_job: the job that it names has not ended.
    """

    on_a_waiting_job: bool = False


@dataclass(frozen=True)
class Http:
    """The request that another language's client would send, or one whose arguments no release of the client takes."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None  # Any: JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """A FairStack generation from its submission to its end. What comes of it: {submitted, ended, call, signature}.

    The page's own models make videos and music, which no engine here does: the fake engines' models stand for them.
    """

    modality: str
    body: Mapping[str, Any]  # Any: JSON
    is_called_back: bool = False


@dataclass(frozen=True)
class Sample:
    id: str
    text: str
    how: Python | Curl | Http | Generation
    check: Check
    is_repeatable: bool = False  # the second time it gives what the first one gave

    @property
    def seed(self) -> str:
        return self.id.partition("-")[0]
