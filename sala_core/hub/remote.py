"""What the hub says about a model, and its refusals in this program's terms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import httpx2  # whose exceptions huggingface_hub raises
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from sala_core.errors import DownloadError, HubAccessError, HubConnectionError, HubNotFoundError
from sala_core.hub.records import RemoteFile, RemoteModel
from sala_core.model.hub_cache import DEFAULT_REVISION
from sala_core.model.known_models import KNOWN_MODELS

_TIMEOUT_S = 30.0
_UNAUTHORIZED = (401, 403)
_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # commits and digests become names of files


def remote_model(name: str, revision: str | None, token: str | None) -> RemoteModel:
    """Ask the hub (HF_ENDPOINT) for the files of a model at the commit that a revision now has.

    token: None takes HF_TOKEN or the one that `hf auth login` stored. Raises DownloadError: HubNotFoundError,
    HubAccessError or HubConnectionError.
    """
    try:
        with hub_errors(name, revision):
            info = HfApi(token=token).model_info(name, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # no JSON, or another JSON than a hub's
        raise HubConnectionError(_not_a_hub(f"its answer cannot be read: {reason(error)}")) from error
    if not info.sha or not _HEX.fullmatch(info.sha) or info.siblings is None:
        raise HubConnectionError(_not_a_hub("it names no commit or no files"))
    license_ = info.card_data.get("license") if info.card_data else None
    return RemoteModel(
        name=name,
        revision=revision or DEFAULT_REVISION,
        commit=info.sha,
        license=license_ if isinstance(license_, str) else "",
        files=tuple(_remote_file(sibling) for sibling in info.siblings),
    )


def _remote_file(sibling: RepoSibling) -> RemoteFile:
    digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    if sibling.size is None or not digest or not _HEX.fullmatch(digest):
        raise HubConnectionError(_not_a_hub(f"it gives no size or checksum of {sibling.rfilename}"))
    return RemoteFile(name=sibling.rfilename, num_bytes=sibling.size, digest=digest)


@contextmanager
def hub_errors(name: str, revision: str | None = None) -> Iterator[None]:
    """Turn what the hub's client raises into DownloadErrors that name the model and the next step."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubConnectionError(
            "the environment variable HF_HUB_OFFLINE forbids every download; unset it and run the command again"
        ) from error
    except GatedRepoError as error:
        raise HubAccessError(
            f"{name} is given only to users who accept its conditions: open {constants.ENDPOINT}/{name}, accept them, "
            f"then {_LOG_IN}"
        ) from error
    except RevisionNotFoundError as error:
        raise HubNotFoundError(f"{name} has no revision {revision!r}; leave --revision out for the latest") from error
    except (RepositoryNotFoundError, DisabledRepoError) as error:
        raise HubNotFoundError(_unknown(name)) from error
    except HfHubHTTPError as error:
        raise _http_error(name, error) from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise HubConnectionError(f"HF_ENDPOINT is {constants.ENDPOINT!r}, which is no address; unset it") from error
    except httpx2.HTTPError as error:
        raise HubConnectionError(
            f"{constants.ENDPOINT} cannot be reached ({reason(error)}); check the network, a proxy (HTTPS_PROXY) and "
            "HF_ENDPOINT, then run the command again: it continues where it stopped"
        ) from error


_LOG_IN = "create a token in your account's settings on the hub, set HF_TOKEN to it, and start the program again"


def _http_error(name: str, error: HfHubHTTPError) -> DownloadError:
    status = error.response.status_code
    if status in _UNAUTHORIZED:
        return HubAccessError(
            f"{constants.ENDPOINT} refuses {name} (status {status}): the token is missing, not valid or has no access; "
            + _LOG_IN
        )
    if status == 404:
        return HubConnectionError(_not_a_hub(f"it answers 404 for {error.response.request.url.path}"))
    return HubConnectionError(
        f"{constants.ENDPOINT} answers with status {status}; try again later: the same command continues"
    )


def _unknown(name: str) -> str:
    names = [model.name for model in KNOWN_MODELS]
    close = get_close_matches(name.lower(), [known.lower() for known in names], n=1)
    likely = next((known for known in names if close and known.lower() == close[0]), None)
    advice = f"did you mean {likely}?" if likely else f"known models: {', '.join(names)}."
    return f"there is no public model {name!r} at {constants.ENDPOINT}; {advice} If it is private, {_LOG_IN}"


def _not_a_hub(what: str) -> str:
    return f"{constants.ENDPOINT} does not answer as a hub does: {what}; check HF_ENDPOINT, a proxy or a login page"


def reason(error: Exception) -> str:
    """The first line of an exception's text, or its class where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
