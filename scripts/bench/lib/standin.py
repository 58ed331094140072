"""The tests' stand-in of OpenAI's API as a process of its own: python standin.py PORT."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import uvicorn  # noqa: E402 - the path comes first
from vendors.openai_app import OpenAIStandIn  # noqa: E402 - as above

if __name__ == "__main__":
    uvicorn.run(OpenAIStandIn().app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", lifespan="off")
