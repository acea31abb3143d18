"""The same calls without the site: 24 threads and the SDK's own retries, or plain exponential `backoff`.

    python -m bench.bulk_rivals sdk|backoff BASE_URL CALLS        prints {"failed": …, "cpu_ms": …} as JSON

No database, no queue, no ledger: all they do is ask, so what they reach is the most these ways can reach.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import backoff
import openai

THREADS = 24
MESSAGES: Any = [
    {"role": "system", "content": "你是一位给少年读者写短篇故事的作家。"},
    {"role": "user", "content": "请写一个三百字左右的故事：唐朝的主人公来到现代，获得了隐形的超能力。"},
]


def asker(way: str, base_url: str) -> Callable[[], Any]:
    """One call, with the retries of that way."""
    retries = 2 if way == "sdk" else 0
    api = openai.OpenAI(base_url=base_url, api_key="none", max_retries=retries)

    def ask() -> Any:
        return api.chat.completions.create(model="bench", messages=MESSAGES, max_tokens=2048)

    return (
        ask if way == "sdk" else backoff.on_exception(backoff.expo, openai.RateLimitError, logger=None)(ask)
    )


def main(way: str, base_url: str, calls: int) -> None:
    """Makes the calls and prints how many failed."""
    ask = asker(way, base_url)

    def fails(_number: int) -> bool:
        try:
            ask()
        except openai.OpenAIError:
            return True
        return False

    began = time.process_time()
    with ThreadPoolExecutor(THREADS) as pool:
        failed = sum(pool.map(fails, range(calls)))
    print(json.dumps({"failed": failed, "cpu_ms": (time.process_time() - began) * 1000 / calls}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
