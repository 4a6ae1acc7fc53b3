#!/usr/bin/env bash
# Both settings, three seeds, six rows each: about 13 minutes on 2 cores. The data set must be in reach:
#   GOSSIPDISTILL_DATA=FOLDER experiments/fashion_mnist/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
here=experiments/fashion_mnist
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir -p "$here/results"
for setting in skewed iid; do
    gossipdistill compare "$here/$setting.toml" --seeds 0,1,2 --out "$out" --format json \
        --strategies isolated,self_distillation,codistill_predictions,codistill_checkpoints,gossip_averaging,pooled \
        > "$here/results/$setting.json"
done
python "$here/report.py" | tee "$here/results/table.md"
