#!/usr/bin/env bash
# build.sh SERVICE [run]: build a service's image without a container engine's daemon; with `run`, start it and ask its health.
#
# Needs root, buildah and debootstrap (apt). The base is a Debian 12 made here by debootstrap; the packages are wheels that pip
# fetches on this machine, however pip is configured on it, so the build itself asks no network. Everything lies in build/images.
set -euo pipefail
cd "$(dirname "$0")/../.."
service=${1:?usage: build.sh SERVICE [run]}
out=$PWD/build/images
image=langptune/$service:0.1.0
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
store=(--root "$out/storage" --runroot "$out/run")
pip=${PIP:-.venv/bin/pip}

need() { command -v "$1" >/dev/null || { echo "build.sh: $1 is not installed (apt install $1)" >&2; exit 3; }; }
need buildah
need debootstrap
mkdir -p "$out/wheels/$service"

if ! buildah "${store[@]}" inspect --type image langptune/base:bookworm >/dev/null 2>&1; then
  echo "base: Debian 12 with Python 3.11"
  [ -x "$out/rootfs/usr/bin/python3" ] ||
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$out/rootfs" >"$out/debootstrap.log"
  container=$(buildah "${store[@]}" from scratch)
  buildah "${store[@]}" add --quiet "$container" "$out/rootfs" / >/dev/null
  buildah "${store[@]}" commit --quiet --rm "$container" langptune/base:bookworm >/dev/null
fi

extra=$(sed -n "s/.*'\.\[\(.*\)\]'.*/\1/p" "infra/images/$service/Dockerfile")
echo "wheels: [$extra]"
"$pip" wheel --quiet --wheel-dir "$out/wheels/$service" --constraint constraints.txt ".[$extra]" 'setuptools>=80' wheel
rm -f "$out/wheels/$service"/langptune-*.whl # made anew in the image, from the sources

echo "image: $image"
buildah "${store[@]}" build --quiet --file "infra/images/$service/Dockerfile" --tag "$image" --volume "$out/wheels/$service:/wheels:ro" \
  --build-arg BASE=localhost/langptune/base:bookworm --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels . >/dev/null
[ "${2:-}" = run ] || exit 0

container=$(buildah "${store[@]}" from "localhost/$image")
cleanup() { buildah "${store[@]}" rm "$container" >/dev/null; }
trap cleanup EXIT
inside() { buildah "${store[@]}" run "$container" -- "$@"; }
echo "user: $(inside id -u):$(inside id -g); compilers and pip: $(inside sh -c 'command -v gcc cc g++ make pip pip3 || echo none')"
port=$(sed -n 's/^EXPOSE \([0-9]*\).*/\1/p' "infra/images/$service/Dockerfile")
inside sh -c "echo \$\$ >/tmp/pid; exec python -m services.$service" >"$out/$service.log" 2>&1 &
running=$!
for _ in $(seq 60); do inside python -m langptune.rpc.probe "127.0.0.1:$port" 2>/dev/null && healthy=yes && break; sleep 1; done
if [ "${healthy:-}" != yes ]; then tail -20 "$out/$service.log"; echo "the image does not serve" >&2; exit 1; fi
echo "health: SERVING"
kill -TERM "$(inside cat /tmp/pid)"
if wait "$running"; then echo "stopped: exit code 0"; else echo "stopped: exit code $?"; fi
tail -1 "$out/$service.log"
