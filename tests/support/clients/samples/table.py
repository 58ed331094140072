"""All samples, one row each."""

from typing import Final

from clients.samples import fairstack, sdk, submitting

SAMPLES: Final = (*submitting.SAMPLES, *sdk.SAMPLES, *fairstack.SAMPLES)
