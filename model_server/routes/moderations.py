"""POST /v1/moderations: a text is flagged if it contains a word of a category's list."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..database import new_id
from ..schemas import ModerationRequest, read_json

# Words that have no place in a story for children. Fights with monsters are the product: 打败 and 怪兽 are harmless.
WORDS: dict[str, tuple[str, ...]] = {
    "harassment": ("去死吧", "废物东西", "贱人"),
    "hate": ("劣等民族", "种族清洗"),
    "illicit": ("制造炸弹", "制毒", "贩毒", "冰毒"),
    "self-harm": ("自杀", "自残", "割腕", "suicide"),
    "sexual": ("色情", "裸体", "性交", "porn"),
    "sexual/minors": ("儿童色情", "恋童"),
    "violence": ("恐怖袭击", "屠杀平民"),
    "violence/graphic": ("血肉模糊", "开膛破肚", "肢解"),
}


async def create_moderation(request: Request) -> Response:
    """Flags each input in which a listed word occurs."""
    asked = await read_json(request, ModerationRequest)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    results = [_moderate(text.lower()) for text in texts]
    return JSONResponse({"id": new_id("modr"), "model": "word-list", "results": results})


def _moderate(text: str) -> dict[str, Any]:
    categories = {category: any(word in text for word in words) for category, words in WORDS.items()}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": {category: float(found) for category, found in categories.items()},
        "category_applied_input_types": {category: ["text"] for category in categories},
    }


routes = [Route("/moderations", create_moderation, methods=["POST"])]
