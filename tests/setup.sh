#!/usr/bin/env bash
# Makes this machine ready for `make test`: the container engines, bubblewrap, Node, the Claude Code
# CLI, a second WhatsApp client, the agent image in every engine, the sources of every dependency,
# and a plain user for what must not need root.
#
# What is missing is installed where that is ours to do: as root on Debian and its relatives, or
# through sudo when CI=true. Elsewhere it is left out, loudly, with the command that gets it; the
# tests that need it are then left out too. With CI=true nothing may be left out.
#
# Every part is tried for real. What works stands in target/test-tools/env.sh at the end.
# Safe to run again and again, by several at once; it takes about two seconds when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/test-tools"
tools=$(cd "$target/test-tools" && pwd)
inspector=$tools/inspector/node_modules/@modelcontextprotocol/inspector/cli/build/cli.js
image=rust-claw-agent:latest
test_user=claw
docker_log=/var/log/dockerd.log
mcp_sdk_version=1.32.2
# It declares Node 22 (npm only warns); its command line, all that is used here, runs with Node 20.
mcp_inspector_version=0.22.0
claude_version=$(sed -n 's/^ARG CLAUDE_CODE_VERSION=//p' container/Dockerfile)
base_image=$(sed -n 's/^ARG BASE_IMAGE=//p' container/Dockerfile)

# One at a time in this tree. Nothing that outlives us may keep descriptor 9 open.
exec 9>"$tools/lock"
if command -v flock >/dev/null; then flock 9; fi

# Nothing that is only tried may hang. (Not every system has the command.)
limit="env"
if command -v timeout >/dev/null; then limit="timeout 120"; fi

# ---- What was found.

missing="" # the parts that are left out, by the words in the names of their tests

say() { printf 'setup: %-16s %s\n' "$1" "$2"; }

# left_out PART WHY COMMAND
left_out() {
  missing="$missing $1"
  say "$1" "LEFT OUT: $2"
  say "" "to get it: $3"
}

# What a failed part printed last, on one line.
reason() {
  { grep -vE '^ *$|complete log of this run' "$tools/$1.log" 2>/dev/null || true; } | tail -n 1 | cut -c 1-300
}

# ---- Who may install.

is_root() { [ "$(id -u)" = 0 ]; }
as_root() { if is_root; then "$@"; else sudo -n "$@"; fi; }
as_test_user() { runuser --login "$test_user" --command "$*"; }

may_install=no
if command -v apt-get >/dev/null; then
  if is_root || { [ "${CI:-}" = true ] && sudo -n true 2>/dev/null; }; then may_install=yes; fi
fi

# ---- Debian's packages.

install_packages() {
  local packages="" pair
  for pair in \
    podman:podman runc:runc newuidmap:uidmap slirp4netns:slirp4netns catatonit:catatonit \
    bwrap:bubblewrap debootstrap:debootstrap iptables:iptables pgrep:procps \
    sqlite3:sqlite3 crontab:cron node:nodejs systemd-analyze:systemd zsh:zsh fish:fish; do
    command -v "${pair%%:*}" >/dev/null || packages="$packages ${pair##*:}"
  done
  # Any Docker will do, also one of another maker or on another host.
  if ! command -v dockerd >/dev/null && ! docker_answers; then packages="$packages docker.io"; fi
  case "$packages" in *" podman"*) packages="$packages netavark" ;; esac
  # Some builds of Node bring npm along, and Debian's npm does not go with those.
  if [ -z "$packages" ] && ! command -v npm >/dev/null; then packages=npm; fi
  if [ -z "$packages" ]; then return; fi

  say packages "installing:$packages"
  # A list that cannot be renewed (one of several sources is down) may still do.
  as_root apt-get update >"$tools/packages.log" 2>&1 || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    -o DPkg::Lock::Timeout=300 $packages >>"$tools/packages.log" 2>&1 9>&- ||
    { say packages "apt-get failed, see $tools/packages.log: $(reason packages)" && return; }
  if [ "$packages" != npm ]; then install_packages; fi
}

# ---- Docker Engine.

docker_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

start_docker() {
  if docker_answers || ! command -v dockerd >/dev/null || [ $may_install = no ]; then return; fi
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker
  else
    # Left by an engine that was killed; its number may belong to another program by now.
    if ! pgrep -x --runstates D,R,S dockerd >/dev/null; then
      as_root rm -f /run/docker.pid /run/docker/containerd/containerd.pid
    fi
    as_root sh -c "setsid --fork nohup dockerd >$docker_log 2>&1 </dev/null" 9>&-
  fi
  local try
  for try in $(seq 1 120); do
    if docker_answers; then return; fi
    sleep 0.5
  done
  say docker "the engine does not come up, see $docker_log"
}

# ---- A plain user, with podman of its own.

make_test_user() {
  if ! is_root || ! command -v useradd >/dev/null || ! command -v runuser >/dev/null; then return; fi
  id "$test_user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$test_user"
  if ! grep -q "^$test_user:" /etc/subuid 2>/dev/null; then
    usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "$test_user"
  fi
  # The kernel's own overlay. Podman 4.3 takes `vfs` if not told, which copies the image per run.
  local storage
  storage=$(eval echo "~$test_user")/.config/containers/storage.conf
  if [ ! -e "$storage" ]; then
    as_test_user "mkdir -p .config/containers && printf '[storage]\ndriver = \"overlay\"\n' >'$storage'"
  fi
  # Open for all wherever udev runs; a network of one's own needs it.
  if [ -c /dev/net/tun ]; then chmod 0666 /dev/net/tun; fi
}

# ---- The Claude Code CLI: one native program, the same package as in the image.

install_claude() {
  local platform have
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) platform=linux-x64 ;;
    Linux-aarch64) platform=linux-arm64 ;;
    Darwin-x86_64) platform=darwin-x64 ;;
    Darwin-arm64) platform=darwin-arm64 ;;
    *) return ;;
  esac
  have=$(cat "$tools/claude-version" 2>/dev/null || true)
  if [ "$have" = "$claude_version" ] && [ -x "$tools/bin/claude" ]; then return; fi
  if ! command -v npm >/dev/null; then return; fi
  say claude_cli "installing $claude_version"
  if npm install --prefix "$tools/npm" --no-save --no-fund --no-audit \
    "@anthropic-ai/claude-code-$platform@$claude_version" >"$tools/claude_cli.log" 2>&1; then
    # A plain file, not a link, so that it can be bound into a sandbox as it is.
    mkdir -p "$tools/bin"
    mv -f "$tools/npm/node_modules/@anthropic-ai/claude-code-$platform/claude" "$tools/bin/claude"
    rm -rf "$tools/npm"
    echo "$claude_version" >"$tools/claude-version"
  fi
}

# ---- The agent image.

# The Dockerfile's base: there already, or from a registry, or made here of Debian's packages.
base_image() {
  if docker image inspect "$base_image" >/dev/null 2>&1; then return; fi
  if $limit docker pull --quiet "$base_image" >/dev/null 2>&1; then return; fi
  if [ $may_install = no ] || ! command -v debootstrap >/dev/null; then return; fi
  say image "making $base_image with debootstrap"
  local root=$tools/base tar=$tools/base.tar
  if [ ! -s "$tar" ]; then
    as_root rm -rf "$root"
    as_root debootstrap --variant=minbase bookworm "$root" 9>&-
    # As in the image this stands for: no flushing to disk, no documentation.
    printf 'force-unsafe-io\npath-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\n' |
      as_root tee "$root/etc/dpkg/dpkg.cfg.d/container" >/dev/null
    # Where the way to the registries is watched, only this machine knows whom to trust.
    if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
      as_root install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/test-ca.crt"
    fi
    as_root tar -C "$root" --exclude='./dev/*' --exclude='./var/cache/apt/archives/*.deb' \
      -cf - . >"$tar.new"
    mv "$tar.new" "$tar"
    as_root rm -rf "$root"
  fi
  docker import \
    --change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/test-ca.crt SSL_CERT_FILE=/etc/ssl/test-ca.crt' \
    "$tar" "$base_image"
}

# Sets image_ok. Docker's layer cache makes this quick when nothing changed.
build_image() {
  image_ok=no
  if ! docker_answers; then return; fi
  base_image >"$tools/image.log" 2>&1 || true
  if ! docker image inspect "$image" >/dev/null 2>&1; then say image "building $image"; fi
  if make --no-print-directory image ENGINE=docker IMAGE="$image" \
    IMAGE_FLAGS="--network host" >>"$tools/image.log" 2>&1 9>&-; then
    image_ok=yes
  fi
}

# "DOCKER'S-ID PODMAN'S-ID ROOTLESS-PODMAN'S-ID", empty where an engine does not have the image.
image_ids() {
  local format='{{.Id}}'
  echo "$(docker image inspect --format "$format" "$image" 2>/dev/null)" \
    "$(podman image inspect --format "$format" "$image" 2>/dev/null)" \
    "$(as_test_user podman image inspect --format "$format" "$image" 2>/dev/null)"
}

# Podman gets what Docker built, unless the last time's is still there.
load_into_podman() {
  if [ $image_ok = no ] || ! command -v podman >/dev/null; then return; fi
  if [ "$(image_ids)" = "$(cat "$tools/image-ids" 2>/dev/null)" ]; then return; fi
  say image "copying into podman"
  docker save --output "$tools/image.tar" "$image"
  podman load --quiet <"$tools/image.tar" >"$tools/podman.log" 2>&1 9>&- &
  if id "$test_user" >/dev/null 2>&1 && is_root; then
    as_test_user podman load --quiet <"$tools/image.tar" >"$tools/rootless.log" 2>&1 9>&- || true
  fi
  wait $! || true
  rm -f "$tools/image.tar"
  image_ids >"$tools/image-ids"
}

# The agent image with the hostile stand-in for the runner, for the attack suite.
build_attack_image() {
  attack_image_ok=no
  if [ $image_ok = no ]; then return; fi
  if tests/attack-image.sh "$image" >"$tools/attack-image.log" 2>&1 9>&-; then
    attack_image_ok=yes
  fi
}

# ---- A client of the Model Context Protocol that is not ours.

install_mcp() {
  local folder=$1 package=@modelcontextprotocol/$2 version=$3 have
  have=$(cat "$tools/$folder/version" 2>/dev/null || true)
  if [ "$have" = "$version" ] || ! command -v npm >/dev/null; then return; fi
  say node "installing $package $version"
  if npm install --prefix "$tools/$folder" --no-save --no-fund --no-audit --ignore-scripts \
    "$package@$version" >"$tools/$folder.log" 2>&1; then
    echo "$version" >"$tools/$folder/version"
  fi
}

# ---- A client of WhatsApp that is not ours: the friend's phone. Pinned by its lock file.

install_baileys() {
  local from=tests/fakes/whatsapp/friend to=$tools/baileys
  if ! command -v npm >/dev/null; then return; fi
  if cmp -s "$from/package-lock.json" "$to/installed"; then return; fi
  say baileys "installing $(sed -n 's/^    "baileys": "\(.*\)"$/\1/p' "$from/package.json")"
  mkdir -p "$to"
  cp "$from/package.json" "$from/package-lock.json" "$to"
  if npm ci --prefix "$to" --no-fund --no-audit --ignore-scripts >"$tools/baileys.log" 2>&1; then
    cp "$from/package-lock.json" "$to/installed"
  fi
}

# ---- The sources of all dependencies on all systems: some tests ask cargo without a network.

fetch_sources() {
  if ! cargo fetch --locked >"$tools/cargo.log" 2>&1 9>&-; then
    say cargo "cannot fetch all dependencies: $(reason cargo)"
  fi
}

# ---- Does it really work? Each in the background, its output in PART.log, PART.ok if it does.

probe() {
  local part=$1
  shift
  rm -f "$tools/$part.ok"
  { if $limit "$@" </dev/null >"$tools/$part.log" 2>&1 9>&-; then touch "$tools/$part.ok"; fi; } &
}
works() { [ -e "$tools/$1.ok" ]; }

# As the program starts it: any uid, read-only, no capabilities, no network.
inside="--rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
--tmpfs /tmp --entrypoint claude"
# As root, podman asks for more than some machines' root may have; it fails unless told less.
podman_limits="--ulimit nofile=4096:4096 --ulimit nproc=4096:4096"

probe_all() {
  rm -f "$tools"/*.ok
  if [ $image_ok = yes ]; then
    probe docker docker run $inside --user 12345:12345 "$image" --version
    probe podman podman run $inside $podman_limits --user 12345:12345 "$image" --version
    if is_root && id "$test_user" >/dev/null 2>&1; then
      probe rootless runuser --login "$test_user" \
        --command "podman run $inside $podman_limits --userns keep-id $image --version"
    fi
  fi
  probe bwrap bwrap --unshare-all --uid 1000 --gid 1000 --ro-bind /usr /usr --symlink usr/lib /lib \
    --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp /usr/bin/env true
  # Reads a unit; needs no systemd that runs.
  probe systemd systemd-analyze --version
  probe user_units unshare --mount sh tests/it/user-units.sh systemctl --user --version
  # Its completions are tried in a terminal.
  probe zsh zsh -fc 'zmodload zsh/zpty && echo $ZSH_VERSION'
  probe fish fish --version
  probe node node --print \
    "require.resolve('@modelcontextprotocol/sdk/client/index.js', { paths: ['$tools/mcp'] }) && require.resolve('$inspector') && process.version"
  probe baileys node --input-type=module --eval \
    "const { default: make } = await import('$tools/baileys/node_modules/baileys/lib/index.js'); if (!make) process.exit(1); console.log('loads')"
  if [ -x "$tools/bin/claude" ]; then probe claude_cli "$tools/bin/claude" --version; fi
  wait
}

report() {
  local get="run tests/setup.sh as root on Debian" why
  for part in docker podman rootless bwrap systemd user_units zsh fish node baileys claude_cli; do
    if works $part; then
      say $part "ok: $(reason $part)"
      continue
    fi
    why=$(reason $part)
    case $part in
      docker)
        if ! docker_answers; then
          why="no Docker Engine answers" get="install Docker Engine and start it (here: $docker_log)"
        fi
        if docker_answers && [ $image_ok = no ]; then
          why="no image: $(reason image)" get="make image, see $tools/image.log"
        fi
        ;;
      podman)
        if ! command -v podman >/dev/null; then get="apt-get install podman"; fi
        if [ $image_ok = no ]; then why="no image (Docker builds it)"; fi
        ;;
      rootless)
        if [ $image_ok = no ]; then why="no image (Docker builds it)"; fi
        # Without root, podman itself is the rootless one, and was tried above.
        if ! is_root && works podman; then
          say rootless "ok: podman is"
          continue
        fi
        ;;
      bwrap) get="apt-get install bubblewrap" ;;
      systemd) get="apt-get install systemd" ;;
      user_units) get="apt-get install systemd, and run the tests as root" ;;
      zsh | fish) get="apt-get install zsh fish" ;;
      node) get="apt-get install nodejs npm, then tests/setup.sh" ;;
      baileys | claude_cli) get="install Node and npm, then tests/setup.sh" ;;
    esac
    left_out $part "${why:-not found}" "$get"
  done
}

write_env() {
  {
    echo "# Written by tests/setup.sh: what works on this machine."
    if works docker; then echo "export CLAW_TEST_DOCKER=1"; fi
    if works podman; then echo "export CLAW_TEST_PODMAN=1"; fi
    if works rootless; then echo "export CLAW_TEST_ROOTLESS_USER=$test_user"; fi
    if works bwrap; then echo "export CLAW_TEST_BWRAP=1"; fi
    if works user_units; then echo "export CLAW_TEST_USER_UNITS=1"; fi
    if works node; then
      echo "export CLAW_TEST_NODE=1"
      echo "export CLAW_TEST_MCP_SDK='$tools/mcp'"
      echo "export CLAW_TEST_MCP_INSPECTOR='$inspector'"
    fi
    if works baileys; then echo "export CLAW_TEST_BAILEYS='$tools/baileys'"; fi
    if works claude_cli; then echo "export CLAW_TEST_CLAUDE='$tools/bin/claude'"; fi
    if [ $image_ok = yes ]; then echo "export CLAW_TEST_IMAGE=$image"; fi
    if [ $attack_image_ok = yes ]; then
      echo "export CLAW_TEST_ATTACK_IMAGE=rust-claw-attack:latest"
    fi
    echo "# Tests with one of these words in their names are left out."
    echo "export CLAW_TEST_MISSING='${missing# }'"
  } >"$tools/env.sh.new"
  mv "$tools/env.sh.new" "$tools/env.sh"
}

if [ $may_install = yes ]; then install_packages; fi
start_docker
make_test_user
install_claude
install_mcp mcp sdk "$mcp_sdk_version"
install_mcp inspector inspector "$mcp_inspector_version"
install_baileys
fetch_sources
build_image
load_into_podman
build_attack_image
probe_all
report
write_env
if [ -n "$missing" ] && [ "${CI:-}" = true ]; then
  echo "setup: CI=true and not everything is there:$missing" >&2
  exit 1
fi
