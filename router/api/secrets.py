"""/v1/organizations/{org}/secrets: vendors' keys, named as their variables. What is set can be used and never read again.

The fields are checked by hand: the framework's own errors show the value that was wrong, and here that may be the key.
"""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, WithJsonSchema

from protos.errors import InputInvalid
from router.api.context import JSON_BODY, WithParts, WithPathOrganization
from router.api.envelope import Success, success
from router.api.job_shapes import iso
from router.store.secrets import Secret

routes = APIRouter(prefix="/v1/organizations/{org}/secrets", tags=["secrets"])

_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_VALUE: Final = re.compile(r"[\x21-\x7e]{1,4096}")  # it goes into an HTTP header

_NameField = Annotated[object, WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]
_ValueField = Annotated[
    object, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 4096, "writeOnly": True})
]


class SecretBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "OPENAI_API_KEY", "value": "sk-..."}]}
    )

    name: _NameField
    value: _ValueField

    def checked(self) -> tuple[str, str]:
        """The name and the value. Raises InputInvalid, which shows neither."""
        errors = []
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            errors.append(("name", "is not the name of a variable: use capitals, digits and _, such as OPENAI_API_KEY"))
        if not isinstance(self.value, str) or not _VALUE.fullmatch(self.value):
            errors.append(("value", "is not a key: use 1 to 4096 printable ASCII characters without spaces"))
        if errors:
            raise InputInvalid.of(errors)
        return str(self.name), str(self.value)


class SecretShape(BaseModel):
    name: str
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, secret: Secret) -> "SecretShape":
        return cls(name=secret.name, created_at=iso(secret.created_at), updated_at=iso(secret.updated_at))


class Removed(BaseModel):
    name: str
    deleted: bool = True


@routes.post("", status_code=201, response_model=Success[SecretShape], dependencies=[JSON_BODY])
async def set_secret(request: Request, body: SecretBody, parts: WithParts, org: WithPathOrganization) -> Response:
    """Keeps it, sealed; one of the same name is replaced. From the next call on it is used for this organization."""
    secret, is_new = await parts.secrets.put(org, *body.checked())
    return success(request, SecretShape.of(secret), 201 if is_new else 200)


@routes.get("", response_model=Success[list[SecretShape]])
async def list_secrets(request: Request, parts: WithParts, org: WithPathOrganization) -> Response:
    """The names, never the values."""
    return success(request, [SecretShape.of(secret) for secret in await parts.secrets.listed(org)])


@routes.delete("/{name}", response_model=Success[Removed])
async def delete_secret(request: Request, name: str, parts: WithParts, org: WithPathOrganization) -> Response:
    await parts.secrets.remove(org, name)
    return success(request, Removed(name=name))
