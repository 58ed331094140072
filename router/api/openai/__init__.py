"""The OpenAI dialect, so that what speaks to that API speaks to this box: one file per resource.

Every call is direct: served at once, not durable, and cancelled when its caller goes. Fields that change the answer and that
nothing here can honour are refused by name, never dropped in silence.
"""

from typing import Final

from fastapi import APIRouter

from router.api.openai import audio, chat, completions, embeddings, images, models

ROUTES: Final[tuple[APIRouter, ...]] = tuple(
    resource.routes for resource in (models, chat, completions, embeddings, images, audio)
)
