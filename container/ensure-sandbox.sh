#!/bin/sh
# Makes sure that there is something to run agents in: an engine that answers, or bubblewrap.
# Where there is nothing it installs bubblewrap with the system's package manager; at a terminal it
# asks first. An agent never runs without a sandbox.
set -u

for engine in docker podman; do
  if command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1; then exit 0; fi
done
if command -v container >/dev/null && container system status >/dev/null 2>&1; then exit 0; fi
if command -v bwrap >/dev/null; then exit 0; fi

if command -v apt-get >/dev/null; then
  install='apt-get install -y bubblewrap'
elif command -v dnf >/dev/null; then
  install='dnf install -y bubblewrap'
elif command -v pacman >/dev/null; then
  install='pacman -S --noconfirm bubblewrap'
elif command -v zypper >/dev/null; then
  install='zypper --non-interactive install bubblewrap'
elif command -v apk >/dev/null; then
  install='apk add bubblewrap'
else
  echo 'There is no sandbox to run agents in. Install Docker, Podman or bubblewrap, or on macOS:' >&2
  echo '  container system start' >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then install="sudo $install"; fi

if [ -t 0 ]; then
  printf 'There is no sandbox to run agents in. Install bubblewrap now (%s)? [Y/n] ' "$install"
  read -r answer
  case $answer in
    '' | y | Y | yes) ;;
    *)
      echo "Then run this yourself, or install Docker or Podman: $install" >&2
      exit 1
      ;;
  esac
elif [ "$(id -u)" != 0 ]; then
  echo "There is no sandbox to run agents in. To get one: $install" >&2
  exit 1
fi
# A fresh system may not know its packages yet.
case $install in *apt-get*) ${install%install*}update >/dev/null 2>&1 ;; esac
exec $install
