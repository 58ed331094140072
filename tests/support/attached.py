"""Assets in a folder of the test, and what brings files in and out of jobs with them."""

import time
from collections.abc import Callable
from pathlib import Path

from router.assets.attachments import Attachments, FileLimits
from router.assets.files import Files
from router.assets.library import AssetLimits, Assets
from router.assets.links import Links
from router.outbound import Outbound
from router.store.base import Records
from router.targets import Allowed

KEY = bytes(32)
LIMITS = AssetLimits(file_bytes=1 << 20, quota_bytes=4 << 20, retention_s=3600.0, upload_retention_s=0.0)


def assets_in(
    folder: Path, records: Records, clock: Callable[[], float] = time.time, limits: AssetLimits = LIMITS
) -> Assets:
    """Not open yet."""
    return Assets(records, Files(str(folder / "assets"), folder / "arriving"), limits, clock)


def attachments_of(assets: Assets, clock: Callable[[], float] = time.time) -> Attachments:
    return Attachments(
        assets, Links(KEY, "", clock), Outbound(Allowed(everything=True)), FileLimits(1 << 20, 10.0, 2 << 20)
    )
