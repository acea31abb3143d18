"""The same calls by NeMo DataDesigner's client, which learns how many calls at once a provider bears (AIMD).

    PYTHON bench/bulk_nemo.py BASE_URL CALLS        prints {"failed": …, "cpu_ms": …} as JSON

PYTHON is one with the package data-designer (0.9.7, Apache-2.0, was tried), in an environment of its own. 24 threads; a
call that was refused is made again by the same thread, at most `MAX_TRIES` times, as its engine does with its rows.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from data_designer.engine.models.clients.adapters.openai_compatible import OpenAICompatibleClient
from data_designer.engine.models.clients.errors import ProviderError
from data_designer.engine.models.clients.factory import _NO_TRANSPORT_RETRY_CONFIG, ClientConcurrencyMode
from data_designer.engine.models.clients.model_request_executor import ModelRequestExecutor
from data_designer.engine.models.clients.types import ChatCompletionRequest
from data_designer.engine.models.request_admission.controller import AdaptiveRequestAdmissionController

THREADS, MAX_TRIES = 24, 60
MESSAGES = [
    {"role": "system", "content": "你是一位给少年读者写短篇故事的作家。"},
    {"role": "user", "content": "请写一个三百字左右的故事：唐朝的主人公来到现代，获得了隐形的超能力。"},
]


def make_client(base_url: str) -> ModelRequestExecutor:
    """Its client with its own defaults, behind its admission controller."""
    controller = AdaptiveRequestAdmissionController()
    controller.register(provider_name="bench", model_id="bench", alias="bench", max_parallel_requests=THREADS)
    inner = OpenAICompatibleClient(
        provider_name="bench",
        endpoint=base_url,
        api_key="none",
        retry_config=_NO_TRANSPORT_RETRY_CONFIG,
        max_parallel_requests=THREADS,
        timeout_s=60.0,
        concurrency_mode=ClientConcurrencyMode.SYNC,
    )
    return ModelRequestExecutor(
        inner=inner, request_admission=controller, provider_name="bench", model_id="bench"
    )


def main(base_url: str, calls: int) -> None:
    """Makes the calls and prints how many failed."""
    client = make_client(base_url)

    def fails(_number: int) -> bool:
        for _try in range(MAX_TRIES):
            try:
                client.completion(ChatCompletionRequest(model="bench", messages=MESSAGES, max_tokens=2048))
            except ProviderError:
                continue
            return False
        return True

    began = time.process_time()
    with ThreadPoolExecutor(THREADS) as pool:
        failed = sum(pool.map(fails, range(calls)))
    print(json.dumps({"failed": failed, "cpu_ms": (time.process_time() - began) * 1000 / calls}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
