"""Check of Atropos's API server and of its trainer before a run is opened.

So that no answers are paid for if there is no trainer to send them to.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import ClientError, ClientResponseError, ClientSession, ClientTimeout
from atroposlib.envs.base import BaseEnvConfig

from quantum_hybrid.config import check_address
from quantum_hybrid.errors import TrainerError, UsageError

PATIENCE = ClientTimeout(total=30)


def check_api(config: BaseEnvConfig) -> None:
    """Raise `TrainerError` if there is no Atropos API.

    Raises `UsageError` if its address is none or the trainer does not fit.

    A trainer may register later; then its batch size is checked when groups are first needed.
    """
    url = config.rollout_server_url
    check_address(url, "rollout_server_url")
    try:
        info = asyncio.run(_info(url))
        batch_size = int(info["batch_size"])
    except (ClientResponseError, ValueError, TypeError, KeyError) as error:
        raise TrainerError(f"the server at {url} is no Atropos API ({error})") from error
    except (ClientError, OSError) as error:
        raise TrainerError(f"Atropos's API at {url} cannot be reached ({error})") from error
    if 0 <= batch_size < config.group_size:
        raise UsageError(
            f"`group_size` {config.group_size}: must be at most the trainer's batch size, "
            f"{batch_size}"
        )


async def _info(url: str) -> dict[str, Any]:
    async with (
        ClientSession(timeout=PATIENCE, raise_for_status=True) as session,
        session.get(f"{url}/info") as response,
    ):
        return await response.json()
