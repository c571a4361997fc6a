#!/usr/bin/env bash
# Policy scan of the built manifests with checkov. What is left out, and why, stands in .checkov.yaml.
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=build/checkov
[ -x $environment/bin/checkov ] || { ${PYTHON:-python3} -m venv $environment && $environment/bin/pip install --quiet 'checkov>=3.2,<4'; }
mkdir -p build/k8s
for folder in . overlays/production; do # not dev: it has no policies, so that it runs anywhere
  built=build/k8s/$(basename "$(realpath "infra/k8s/$folder")").yaml
  kubectl kustomize "infra/k8s/$folder" >"$built"
  echo "$folder"
  $environment/bin/checkov --config-file infra/k8s/.checkov.yaml --file "$built"
done
