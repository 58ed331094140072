"""The tests' stand-in of OpenAI's API as a process of its own: python standin.py PORT.

Its gpt-4o-mini answers as fast as it can, its gpt-4o with 150 words a second.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import uvicorn  # noqa: E402 - the path comes first
from vendors.openai_app import OpenAIStandIn  # noqa: E402 - as above

if __name__ == "__main__":
    standin = OpenAIStandIn(paces_s={"gpt-4o": 1 / 150})  # about what a hosted model writes in a second
    uvicorn.run(standin.app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", lifespan="off")
