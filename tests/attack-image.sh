#!/usr/bin/env bash
# Builds the image of the attack suite, `rust-claw-attack`: the agent image $1 with the hostile stand-in
# for the runner (tests/fakes, `attack-agent`) in the runner's place. Docker builds it, podman gets a
# copy. Quick where nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
base=$1
image=rust-claw-attack:latest
target=${CARGO_TARGET_DIR:-target}
machine=$(uname -m)

# Linked statically, as the runner is: it starts in any image.
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --locked --package rust-claw-fakes \
  --bin attack-agent --target "$machine-unknown-linux-gnu" --target-dir "$target/static"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$target/static/$machine-unknown-linux-gnu/debug/attack-agent" "$context/"
printf 'FROM %s\nCOPY attack-agent /usr/local/bin/claw-agent-runner\n' "$base" >"$context/Dockerfile"
docker build --quiet --tag "$image" "$context"

if command -v podman >/dev/null; then
  # Built once more, and not copied: the base is there, so this is a layer of a few megabytes.
  podman build --quiet --layers --pull=never --isolation chroot --tag "$image" "$context"
fi
