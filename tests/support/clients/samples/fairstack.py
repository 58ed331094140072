"""Page 004, FairStack's "Jobs API": its calls under /fairstack, and the answers that it prints, whose shape ours have."""

import json
from typing import Final

from clients.checks import are_some_with, has, is_a_generation, is_shaped_as
from clients.sample import Curl, Generation, Sample

PICTURE: Final = Generation("image", {"model": "fake-image", "prompt": "A cat walking on a beach at sunset"})
CALLED: Final = Generation("image", PICTURE.body, is_called_back=True)
FAILING: Final = Generation("text", {"model": "fake-text", "prompt": "word " * 300})  # the fake engine takes 256

QUEUED: Final = """{
  "job_id": "job_abc123",
  "status": "queued",
  "model": "wan-2-1-t2v",
  "modality": "video",
  "created_at": "2026-03-10T14:30:00Z"
}"""
COMPLETED: Final = """{
  "job_id": "job_abc123",
  "status": "succeeded",
  "model": "wan-2-1-t2v",
  "modality": "video",
  "created_at": "2026-03-10T14:30:00Z",
  "completed_at": "2026-03-10T14:30:42Z",
  "result": {
    "url": "https://media.fairstack.ai/video/.../output.mp4",
    "duration_sec": 5,
    "width": 1280,
    "height": 720,
    "cost": 0.048,
    "cost_micro": 48000,
    "currency": "USD"
  },
  "asset_id": "asset_def456",
  "tags": []
}"""
FAILED: Final = """{
  "job_id": "job_abc123",
  "status": "failed",
  "model": "wan-2-1-t2v",
  "modality": "video",
  "created_at": "2026-03-10T14:30:00Z",
  "completed_at": "2026-03-10T14:30:15Z",
  "error": "Content moderation filter triggered"
}"""
CALL: Final = """{
  "event": "generation.completed",
  "data": {
    "id": "gen_abc123",
    "type": "video",
    "status": "succeeded",
    "model": "wan-2-1-t2v",
    "output": { "url": "https://media.fairstack.ai/video/.../output.mp4", "width": 1280, "height": 720, "duration_sec": 5 },
    "cost": { "cost_micro": 48000, "cost_usd": 0.048, "currency": "USD" },
    "error": null,
    "created_at": "2026-03-10T14:30:00Z",
    "completed_at": "2026-03-10T14:30:42Z"
  },
  "created_at": "2026-03-10T14:30:42Z"
}"""

SAMPLES: Final = (
    Sample(
        "004-curl-get",
        """curl https://api.fairstack.ai/v1/jobs/job_abc123 \\
  -H "Authorization: Bearer $FAIRSTACK_API_KEY\"""",
        Curl(),
        has(status="succeeded"),
    ),
    Sample(
        "004-py-poll",
        """client = FairStack(api_key="fs_live_YOUR_KEY")

# Submit a video generation job
job = client.generate.video(
    model="wan-2-1-t2v",
    prompt="A cat walking on a beach at sunset"
)

# Option 1: Block until complete
result = job.wait()
print(result.url)

# Option 2: Poll manually
import time
while True:
    status = client.jobs.get(job.id)
    if status.status == "succeeded":
        print(status.result.url)
        break
    elif status.status == "failed":
        print(status.error)
        break
    time.sleep(2)""",
        PICTURE,
        is_a_generation,
    ),
    Sample(
        "004-ts-poll",
        """const client = new FairStack({ apiKey: "fs_live_YOUR_KEY" });

// Submit a video generation job
const job = await client.generate.video({
  model: "wan-2-1-t2v",
  prompt: "A cat walking on a beach at sunset",
});

// Option 1: Block until complete
const result = await job.wait();
console.log(result.url);

// Option 2: Poll manually
const poll = async (jobId: string) => {
  while (true) {
    const status = await client.jobs.get(jobId);
    if (status.status === "succeeded") return status;
    if (status.status === "failed") throw new Error(status.error);
    await new Promise((r) => setTimeout(r, 2000));
  }
};""",
        PICTURE,
        is_a_generation,
    ),
    Sample("004-answer-queued", QUEUED, PICTURE, is_shaped_as(json.loads(QUEUED), "submitted")),
    Sample("004-answer-completed", COMPLETED, PICTURE, is_shaped_as(json.loads(COMPLETED), "ended")),
    Sample("004-answer-failed", FAILED, FAILING, is_shaped_as(json.loads(FAILED), "ended")),
    Sample(
        "004-curl-list",
        """curl "https://api.fairstack.ai/v1/jobs?status=completed&limit=10" \\
  -H "Authorization: Bearer $FAIRSTACK_API_KEY\"""",
        Curl(),
        lambda found: are_some_with(status="succeeded")(found["jobs"]) and {"has_more", "cursor"} <= set(found),
    ),
    Sample(
        "004-curl-cancel",
        """curl -X POST https://api.fairstack.ai/v1/jobs/job_abc123/cancel \\
  -H "Authorization: Bearer $FAIRSTACK_API_KEY\"""",
        Curl(on_a_waiting_job=True),
        has(status="cancelled"),
    ),
    Sample("004-webhook", CALL, CALLED, is_shaped_as(json.loads(CALL), "call")),
)
