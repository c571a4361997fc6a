"""A stand-in for the Kubernetes API server: real HTTP, the published REST contract of the few kinds that the trainer uses.

    async with KubernetesApi(rules).serving() as cluster: ...; LANGPTUNE_KUBERNETES_CONFIG is a kubeconfig of `cluster.url`

What it keeps to (API concepts, API conventions, the kinds' reference): objects of one namespace with uid and resourceVersion;
404, 409 AlreadyExists, 422 for what the official schema refuses, 403 for what the given rules do not allow, each as a Status;
label selectors; watches from a resourceVersion, with bookmarks, and 410 for one that is too old; deletion with grace (pods),
finalizers and propagation policies, and garbage collection by owner. What controllers and kubelets do is in `kubernetes_world`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from aiohttp import web

KINDS = {"jobs": ("batch", "Job"), "pods": ("", "Pod"), "services": ("", "Service"), "deployments": ("apps", "Deployment")}
NAMESPACE = "langptune"
Object = dict[str, Any]


class Refused(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": dict(details or {}),
            "code": code,
        }
        super().__init__(message)


class KubernetesApi:
    """The store and its HTTP face. `rules`: RBAC rules of the one who asks. `on_write` is told of every change."""

    def __init__(self, rules: Sequence[Any], version: str = "1.33") -> None:
        self.rules = rules
        self.version = version
        self.url = ""
        self.used: set[tuple[str, str]] = set()  # (resource, verb) that were asked for
        self.away = False  # answer 503 to everything, and cut watches
        self.expired_as_event = True  # how a watch from an old version is told: as an event, or as the answer's status
        self.bookmark_seconds = 0.05
        self.on_write: Callable[[str, str, Object], None] = lambda what, resource, thing: None
        self._objects: dict[tuple[str, str], Object] = {}
        self._revision = 100
        self._oldest = 100  # revision from which on the log is complete
        self._log: list[tuple[int, str, str, Object]] = []
        self._news = asyncio.Event()

    # ---- what tests and controllers use

    def get(self, resource: str, name: str) -> Object:
        """A copy. KeyError when there is none."""
        return copy.deepcopy(self._objects[resource, name])

    def all(self, resource: str, **labels: str) -> list[Object]:
        """Copies, by label; in order of creation."""
        found = [thing for (kind, _), thing in self._objects.items() if kind == resource]
        return [copy.deepcopy(thing) for thing in found if labels.items() <= thing["metadata"].get("labels", {}).items()]

    def put(self, resource: str, thing: Object) -> Object:
        """Create or replace, as a controller does."""
        key = (resource, thing["metadata"]["name"])
        new = key not in self._objects
        if new:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            thing["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now, "namespace": NAMESPACE}
        return self._written("ADDED" if new else "MODIFIED", resource, thing)

    def remove(self, resource: str, name: str) -> None:
        """From the store, at once, and what it owns after it."""
        thing = self._objects.get((resource, name))
        if thing is None:
            return
        self._written("DELETED", resource, thing)
        self._collect(thing["metadata"]["uid"])

    def compact(self) -> None:
        """Forget the past: watches from before now are too old."""
        self._log.clear()
        self._oldest = self._revision

    def cut_watches(self) -> None:
        """Close every open watch, as a server that restarts."""
        self._news.set()
        self._cut += 1

    def delete(self, resource: str, name: str, options: Mapping[str, Any]) -> Object:
        """As the API does it. Raises Refused 404."""
        thing = self._find(resource, name)
        grace = options.get("gracePeriodSeconds")
        if resource == "pods":
            grace = thing["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
            if grace and thing["status"].get("phase", "Pending") == "Running":
                thing["metadata"] |= {"deletionTimestamp": _later(grace), "deletionGracePeriodSeconds": grace}
                return self._written("MODIFIED", resource, thing)
        default = "Orphan" if resource == "jobs" else "Background"  # batch/v1 keeps its pods unless it is told otherwise
        policy = options.get("propagationPolicy") or default
        owned = self._owned(thing["metadata"]["uid"])
        if policy == "Foreground" and owned:
            thing["metadata"] |= {"deletionTimestamp": _later(0), "finalizers": ["foregroundDeletion"]}
            self._written("MODIFIED", resource, thing)
            for kind, each in owned:
                self.delete(kind, each["metadata"]["name"], {})
            return thing
        if policy == "Orphan":
            for kind, each in owned:
                each["metadata"]["ownerReferences"] = []
                self._written("MODIFIED", kind, each)
        self.remove(resource, name)
        return thing

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[KubernetesApi]:
        """For the block; a kubeconfig is at `kubeconfig`."""
        self._cut = 0
        application = web.Application(middlewares=[self._guarded])
        for resource, (group, _) in KINDS.items():
            root = f"/{'apis/' + group if group else 'api'}/v1/namespaces/{NAMESPACE}/{resource}"
            application.add_routes(
                [
                    web.get(root, partial(self._list, resource=resource)),
                    web.post(root, partial(self._create, resource=resource)),
                    web.get(root + "/{name}", partial(self._get, resource=resource)),
                    web.delete(root + "/{name}", partial(self._delete, resource=resource)),
                    web.patch(root + "/{name}", partial(self._patch, resource=resource)),
                ]
            )
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(self.url)))
        try:
            yield self
        finally:
            await runner.cleanup()

    # ---- HTTP

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            if self.away:
                raise Refused(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            answer: web.StreamResponse = await handler(request)
        except Refused as refused:
            return web.json_response(refused.status, status=refused.code)
        return answer

    def _allow(self, resource: str, verb: str, name: str = "") -> None:
        group = KINDS[resource][0]
        self.used.add((resource, verb))
        for rule in self.rules:
            right = group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            if right and name in rule.get("resourceNames", [name]):
                return
        account = f"system:serviceaccount:{NAMESPACE}:langptune-trainer"
        message = f'{resource} is forbidden: User "{account}" cannot {verb} resource "{resource}" in API group "{group}"'
        raise Refused(403, "Forbidden", message, {"kind": resource})

    async def _create(self, request: web.Request, resource: str) -> web.Response:
        self._allow(resource, "create")
        thing = await request.json()
        try:
            kubernetes_validate.validate(thing, self.version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Refused(422, "Invalid", f"{thing.get('kind')} is invalid: {error.message}") from None
        name = thing["metadata"]["name"]
        if (resource, name) in self._objects:
            raise Refused(409, "AlreadyExists", f'{resource} "{name}" already exists', {"name": name, "kind": resource})
        return web.json_response(self.put(resource, thing), status=201)

    async def _get(self, request: web.Request, resource: str) -> web.Response:
        self._allow(resource, "get", request.match_info["name"])
        return web.json_response(self._find(resource, request.match_info["name"]))

    async def _delete(self, request: web.Request, resource: str) -> web.Response:
        self._allow(resource, "delete", request.match_info["name"])
        options = await request.json() if request.can_read_body else {}
        return web.json_response(self.delete(resource, request.match_info["name"], options))

    async def _patch(self, request: web.Request, resource: str) -> web.Response:
        self._allow(resource, "patch", request.match_info["name"])
        thing = self._find(resource, request.match_info["name"])
        before = copy.deepcopy(thing["spec"])
        merge = _strategic if "strategic" in request.content_type else _merged
        thing = merge(thing, await request.json())
        try:
            kubernetes_validate.validate({key: thing[key] for key in thing if key != "status"}, self.version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Refused(422, "Invalid", f"{thing['kind']} is invalid: {error.message}") from None
        if thing["spec"] != before:
            thing["metadata"]["generation"] = thing["metadata"].get("generation", 1) + 1
        return web.json_response(self._written("MODIFIED", resource, thing))

    async def _list(self, request: web.Request, resource: str) -> web.StreamResponse:
        selector = dict(part.split("=") for part in request.query.get("labelSelector", "").split(",") if part)
        if request.query.get("watch") in ("true", "True", "1"):
            self._allow(resource, "watch")
            return await self._watch(request, resource, selector)
        self._allow(resource, "list")
        group, kind = KINDS[resource]
        api_version = f"{group}/v1" if group else "v1"
        metadata = {"resourceVersion": str(self._revision)}
        items = self.all(resource, **selector)
        return web.json_response({"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request, resource: str, selector: Mapping[str, str]) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        gone = Refused(410, "Expired", f"too old resource version: {seen} ({self._oldest})")
        if seen < self._oldest and not self.expired_as_event:
            raise gone
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        end, cut = loop.time() + float(request.query.get("timeoutSeconds", "1800")), self._cut
        while loop.time() < end and not self.away and cut == self._cut:
            if seen < self._oldest:
                await _event(response, "ERROR", gone.status)
                break
            for revision, kind, what, thing in self._log:
                if revision > seen and kind == resource and selector.items() <= thing["metadata"].get("labels", {}).items():
                    await _event(response, what, thing)
            if self._revision > seen and request.query.get("allowWatchBookmarks"):
                group, kind_name = KINDS[resource]
                version = {"resourceVersion": str(self._revision), "creationTimestamp": None}
                bookmark = {"kind": kind_name, "apiVersion": f"{group}/v1" if group else "v1", "metadata": version}
                await _event(response, "BOOKMARK", bookmark)
            seen = self._revision
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.bookmark_seconds):
                    await self._news.wait()
        return response

    # ---- the store

    def _find(self, resource: str, name: str) -> Object:
        if (resource, name) not in self._objects:
            raise Refused(404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource})
        return self.get(resource, name)

    def _written(self, what: str, resource: str, thing: Object) -> Object:
        self._revision += 1
        thing = copy.deepcopy(thing)
        thing["metadata"]["resourceVersion"] = str(self._revision)
        key = (resource, thing["metadata"]["name"])
        if what == "DELETED":
            del self._objects[key]
        else:
            self._objects[key] = thing
        self._log.append((self._revision, resource, what, copy.deepcopy(thing)))
        self._news.set()
        self.on_write(what, resource, copy.deepcopy(thing))
        return copy.deepcopy(self._objects.get(key, thing))

    def _owned(self, uid: str) -> list[tuple[str, Object]]:
        found = []
        for (resource, _), thing in list(self._objects.items()):
            if any(owner["uid"] == uid for owner in thing["metadata"].get("ownerReferences") or ()):
                found.append((resource, copy.deepcopy(thing)))
        return found

    def _collect(self, uid: str) -> None:
        """The garbage collector: what the removed object owned goes, and an owner that waited for the last of them."""
        for resource, thing in self._owned(uid):
            self.delete(resource, thing["metadata"]["name"], {})
        for (resource, name), owner in list(self._objects.items()):
            if "foregroundDeletion" in owner["metadata"].get("finalizers", ()) and not any(
                each["blockOwnerDeletion"]
                for _, thing in self._owned(owner["metadata"]["uid"])
                for each in thing["metadata"]["ownerReferences"]
            ):
                self.remove(resource, name)


async def _event(response: web.StreamResponse, what: str, thing: Object) -> None:
    await response.write(json.dumps({"type": what, "object": thing}).encode() + b"\n")


def _merged(thing: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(thing) if isinstance(thing, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _strategic(thing: Any, patch: Any) -> Any:
    """As RFC 7386, and lists of objects with a name (containers, env) are merged by it."""
    if isinstance(patch, list) and patch and all(isinstance(each, dict) and "name" in each for each in patch):
        merged = {each["name"]: each for each in thing or ()}
        for each in patch:
            merged[each["name"]] = _strategic(merged.get(each["name"], {}), each)
        return list(merged.values())
    if not isinstance(patch, dict):
        return patch
    result = dict(thing) if isinstance(thing, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _strategic(result.get(name), value)
    return result


def _later(seconds: float) -> str:
    return datetime.fromtimestamp(datetime.now(UTC).timestamp() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _kubeconfig(url: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stand-in", "cluster": {"server": url}}],
        "users": [{"name": "trainer", "user": {"token": "a-token"}}],
        "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "trainer", "namespace": NAMESPACE}}],
        "current-context": "stand-in",
    }
