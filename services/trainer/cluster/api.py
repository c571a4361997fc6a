"""The Kubernetes API as the trainer uses it: the only place that knows its client library.

Objects are plain dictionaries in the API's published form, of one namespace. Every call has a deadline and nothing is repeated
here; errors are the typed ones: NotFound, AlreadyExists, FailedPrecondition (refused: not allowed, or not valid), Unavailable.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias

import aiohttp
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client import ApiException

from langptune.errors import AlreadyExists, FailedPrecondition, LangPTuneError, NotFound, Unavailable
from services.trainer.cluster.settings import KubernetesSettings

Kind = Literal["job", "service", "pod"]
Object: TypeAlias = Mapping[str, Any]
Propagation = Literal["Foreground", "Background"]

_WATCH_SECONDS = 240  # that the server keeps a watch open; then it is opened anew
_SILENCE_SECONDS = 300.0  # without any bytes on a watch, after which it counts as lost


class Expired(Exception):
    """The resource version is no longer known to the API (410): list again."""


class ClusterApi:
    """`open` first. Methods raise what the module's docstring says."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._namespace = settings.kubernetes_namespace

    async def open(self) -> None:
        """Read where the API is. Raises FailedPrecondition outside of a cluster without a kubeconfig."""
        configuration = client.Configuration()
        try:
            if self._settings.kubernetes_config:
                path = self._settings.kubernetes_config
                await config.load_kube_config(path, client_configuration=configuration, persist_config=False)
            else:
                config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            message = f"no Kubernetes API: {error}; set LANGPTUNE_KUBERNETES_CONFIG outside of a cluster"
            raise FailedPrecondition(message, reason="NO_KUBERNETES") from error
        self._client = client.ApiClient(configuration)
        self._batch, self._core, self._apps = (
            api(self._client) for api in (client.BatchV1Api, client.CoreV1Api, client.AppsV1Api)
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def create(self, kind: Kind, manifest: Object) -> Object:
        """As it stands in the cluster then. Raises AlreadyExists for a name that is taken."""
        calls = {"job": self._batch.create_namespaced_job, "service": self._core.create_namespaced_service}
        created: Object = await self._call(calls[kind], self._namespace, dict(manifest))
        return created

    async def listed(self, kind: Kind, selector: str) -> tuple[list[Object], str]:
        """All objects with these labels, as they are now, and the resource version to watch from."""
        found = await self._call(self._lists(kind), self._namespace, label_selector=selector)
        return found["items"], found["metadata"]["resourceVersion"]

    async def watch(self, kind: Kind, selector: str, version: str) -> AsyncGenerator[tuple[str, Object], None]:
        """What happens after `version`: ADDED, MODIFIED, DELETED, BOOKMARK, and the object. Ends after a while: watch again.

        Raises Expired besides.
        """
        stream = watch.Watch().stream(
            self._lists(kind),
            self._namespace,
            label_selector=selector,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=_WATCH_SECONDS,
            _request_timeout=(self._settings.kubernetes_timeout, _SILENCE_SECONDS),
        )
        try:
            async with stream:
                async for event in stream:
                    yield event["type"], event["raw_object"]
        except ApiException as error:
            if error.status == 410:
                raise Expired from error
            raise _typed(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(error) from error

    async def delete(
        self, kind: Kind, name: str, *, propagation: Propagation = "Background", grace_seconds: int | None = None
    ) -> None:
        """Idempotent. `grace_seconds` is a pod's; None is its own."""
        calls = {"job": self._batch.delete_namespaced_job, "pod": self._core.delete_namespaced_pod}
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._call(calls[kind], name, self._namespace, body=options)
        except NotFound:
            return

    async def deployment(self, name: str) -> Object:
        """As it is now. Raises NotFound."""
        found: Object = await self._call(self._apps.read_namespaced_deployment, name, self._namespace)
        return found

    async def patch_deployment(self, name: str, patch: Object) -> None:
        """A strategic merge: containers and environment variables are merged by their names."""
        await self._call(self._apps.patch_namespaced_deployment, name, self._namespace, dict(patch))

    def _lists(self, kind: Kind) -> Callable[..., Awaitable[Any]]:
        calls = {"job": self._batch.list_namespaced_job, "pod": self._core.list_namespaced_pod}
        call: Callable[..., Awaitable[Any]] = calls[kind]
        return call

    async def _call(self, call: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        try:
            answer = await call(*arguments, **options, _request_timeout=self._settings.kubernetes_timeout)
        except ApiException as error:
            raise _typed(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(error) from error
        return self._client.sanitize_for_serialization(answer)


def _typed(error: ApiException) -> LangPTuneError:
    """By the status of the answer; its own sentence is in a Status object."""
    try:
        told = json.loads(error.body)
        message, details = told["message"], told.get("details") or {}
    except (TypeError, ValueError, KeyError):
        message, details = str(error.reason), {}
    if error.status == 404:
        return NotFound(str(details.get("kind", "object")), str(details.get("name", "")))
    if error.status == 409:
        return AlreadyExists(f"Kubernetes: {message}", reason="ALREADY_EXISTS")
    if error.status == 429 or not 400 <= (error.status or 0) < 500:
        return Unavailable(f"the Kubernetes API: {message}")
    if error.status in (401, 403):
        return FailedPrecondition(f"the Kubernetes API does not allow it: {message}", reason="KUBERNETES_FORBIDDEN")
    return FailedPrecondition(f"the Kubernetes API refuses it: {message}", reason="KUBERNETES_REFUSED")


def _away(error: Exception) -> Unavailable:
    return Unavailable(f"the Kubernetes API cannot be reached: {error or type(error).__name__}")
