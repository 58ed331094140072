"""Runs snippets with the client of the environment it is started in: a line of JSON in, a line of JSON out.

    runner.py BASE_URL ORGANIZATION_ID

In: {code, names, prints}. Out: {value, printed, error}. Started with another release's own Python: it imports the standard
library and that client alone. Not about what is asked (flat.py starts it).
"""

import ast
import json
import sys
from typing import Any

from fabric_platform import FabricClient


class Enough(Exception):
    """The snippet has printed as often as it was to: a stream that has no end is left so."""


def run(code: str, names: dict[str, Any], prints: int | None) -> dict[str, Any]:  # Any: whatever the snippet makes
    printed: list[list[Any]] = []

    def keep(*values: Any) -> None:
        printed.append(list(values))
        if prints is not None and len(printed) >= prints:
            raise Enough

    told: dict[str, Any] = {"value": None, "printed": printed, "error": None}
    try:
        told["value"] = last_value(code, {**names, "print": keep})
    except Enough:
        pass
    except Exception as error:  # noqa: BLE001  # whatever a client raises is what is asked for
        told["error"] = described(error)
    return told


def last_value(code: str, names: dict[str, Any]) -> Any:
    """What the last statement comes to: of an expression, or of an assignment to a name."""
    *before, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        execute([*before, last], names)
        target = last.targets[0] if isinstance(last, ast.Assign) else None
        return names[target.id] if isinstance(target, ast.Name) else None
    execute(before, names)
    return eval(compile(ast.Expression(last.value), "snippet", "eval"), names)


def execute(statements: list[ast.stmt], names: dict[str, Any]) -> None:
    exec(compile(ast.Module(statements, []), "snippet", "exec"), names)


def described(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    kind = type(error)
    return {
        "type": f"{kind.__module__.split('.')[0]}.{kind.__qualname__}",
        "message": str(error),
        "status": getattr(error, "status_code", None) or getattr(response, "status_code", None),
        "code": getattr(error, "code", None),
        "request_id": getattr(error, "request_id", None),
        "retry_after": getattr(error, "retry_after", None),
    }


def spelled(value: object) -> str:
    """What JSON has no word for: bytes in hexadecimal, all else by its type."""
    return value.hex() if isinstance(value, bytes) else type(value).__qualname__


def main(base_url: str, organization_id: str) -> None:
    with FabricClient(base_url=base_url, organization_id=organization_id) as fabric:
        for line in sys.stdin:
            asked = json.loads(line)
            names = {"fabric": fabric, "FabricClient": FabricClient, **asked["names"]}
            told = run(asked["code"], names, asked["prints"])
            sys.stdout.write(json.dumps(told, default=spelled) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
