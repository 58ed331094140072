"""A streamed call over the official client's connections, with its headers and its errors, and without its passes over each
field of the body and of the request: they take longer than all else that a call is made of.

Not about what is sent (text.py) nor what the errors mean (errors.py). Imported with the client.
"""

import json
from typing import Any

import httpx2
import openai

from providers.openai_wire.dialect import Body


class Sending:
    """Sends the bodies of one endpoint. What is the same in each call is made once."""

    def __init__(self, client: openai.AsyncOpenAI, http: httpx2.AsyncClient, path: str) -> None:
        """http: the client that `client` was given."""
        self._http, self._url = http, httpx2.URL(str(client.base_url).rstrip("/") + path)
        told = {**client.default_headers, "Content-Type": "application/json"}
        self._headers = [
            (name, value) for name, value in told.items() if isinstance(value, str) and name.lower() != "authorization"
        ]
        self._extensions = {"timeout": httpx2.Timeout(client.timeout).as_dict()}

    async def streamed(self, sent: Body, headers: list[tuple[str, str]]) -> httpx2.Response:
        """The answer, whose body is to be read and closed. Raises what the client raises."""
        content = json.dumps(sent, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        request = httpx2.Request(
            "POST", self._url, headers=[*self._headers, *headers], content=content, extensions=self._extensions
        )
        try:
            response = await self._http.send(request, stream=True)
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except httpx2.HTTPError as error:
            raise openai.APIConnectionError(request=request) from error
        if not response.is_success:
            raise await _refused(response)
        return response


async def _refused(response: httpx2.Response) -> openai.APIStatusError:
    await response.aread()
    try:
        body: Any = response.json()  # Any: what the server sent
    except ValueError:
        body = response.text
    error = body.get("error", body) if isinstance(body, dict) else body
    return openai.APIStatusError(f"status {response.status_code}", response=response, body=error)
