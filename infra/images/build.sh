#!/usr/bin/env bash
# build.sh SERVICE [run]: build a service's image without a container engine's daemon; with `run`, start it and ask its health.
#
# Needs root, buildah and debootstrap (apt). The base is a Debian 12 made here by debootstrap; the packages are wheels that pip
# fetches on this machine, however pip is configured on it, so the build itself asks no network. Everything lies in build/images.
set -euo pipefail
cd "$(dirname "$0")/../.."
service=${1:?usage: build.sh SERVICE [run]}
out=$PWD/build/images
base=localhost/langptune/base:bookworm
image=localhost/langptune/$service:0.1.0
dockerfile=infra/images/$service/Dockerfile
pip=${PIP:-.venv/bin/pip}
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot BUILDAH_FORMAT=docker # OCI's format has no health command

for command in buildah debootstrap; do
  command -v $command >/dev/null || { echo "build.sh: $command is not installed (apt install $command)" >&2; exit 3; }
done
mkdir -p "$out/wheels/$service"
on() { buildah --root "$out/storage" --runroot "$out/run" "$@"; }

if ! on inspect --type image $base >/dev/null 2>&1; then
  echo "base: Debian 12 with Python 3.11"
  [ -x "$out/rootfs/usr/bin/python3" ] ||
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$out/rootfs" >"$out/debootstrap.log"
  container=$(on from scratch)
  on add --quiet "$container" "$out/rootfs" / >/dev/null
  on commit --quiet --rm "$container" $base >/dev/null
fi

extra=$(sed -n "s/.*'\.\[\(.*\)\]'.*/\1/p" "$dockerfile")
echo "wheels: [$extra]"
"$pip" wheel --quiet --wheel-dir "$out/wheels/$service" --constraint constraints.txt ".[$extra]" 'setuptools>=80' wheel \
  'async-timeout>=4.0.3' # for redis on Debian 12's Python, 3.11.2; this machine's may be newer and do without
rm -f "$out/wheels/$service"/langptune-*.whl # made anew in the image, from the sources

echo "image: $image"
on build --quiet --pull=never --file "$dockerfile" --tag "$image" --volume "$out/wheels/$service:/wheels:ro" \
  --build-arg BASE=$base --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels . >/dev/null
[ "${2:-}" = run ] || exit 0

# The settings of overlays/dev, as far as a service alone needs them.
settings=(
  LANGPTUNE_GATEWAY_AUTH=jwt LANGPTUNE_GATEWAY_JWT_SECRET=a-secret-for-the-time-of-this-check
  LANGPTUNE_PROFILE_MODEL=/opt/langptune/models/profile-writer LANGPTUNE_EMBEDDING_MODEL=/opt/langptune/models/embedder
  LANGPTUNE_WEIGHTS_URI=/tmp/weights LANGPTUNE_DECODER_DATA=/tmp/decoder LANGPTUNE_JOBS_FOLDER=/tmp/jobs
)
container=$(on from --pull=never "$image")
trap 'on rm "$container" >/dev/null' EXIT
inside() { on run "${settings[@]/#/--env=}" "$container" -- "$@"; }

echo "user: $(inside id -u):$(inside id -g)"
echo "compilers and pip: $(inside sh -c 'command -v cc gcc g++ make pip pip3 || echo none')"
port=$(sed -n 's/^EXPOSE \([0-9]*\).*/\1/p' "$dockerfile")
inside sh -c "echo \$\$ >/tmp/pid; exec python -m services.$service" >"$out/$service.log" 2>&1 &
running=$!
for _ in $(seq 60); do
  if inside python -m langptune.rpc.probe "127.0.0.1:$port" 2>/dev/null; then healthy=yes && break; fi
  sleep 1
done
if [ "${healthy:-}" != yes ]; then tail -20 "$out/$service.log"; echo "the image does not serve" >&2; exit 1; fi
echo "health: SERVING"
kill -TERM "$(inside cat /tmp/pid)"
if wait "$running"; then echo "stopped: exit code 0"; else echo "stopped: exit code $?"; fi
tail -1 "$out/$service.log"
