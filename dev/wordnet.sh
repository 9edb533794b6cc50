#!/usr/bin/env bash
# Fetches WordNet 3.0 to build/wordnet: Debian's package wordnet-base, without
# root. Nothing is fetched where it lies there already. The files are those whose
# hashes stand here, whatever revision of the package holds them, or the script
# stops.
set -euo pipefail
cd "$(dirname "$0")/.."
. dev/apt.sh

FOLDER=$PWD/build/wordnet
FILES=usr/share/wordnet
HASHES="
c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7  data.adj
444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139  data.adv
fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2  data.noun
adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2  data.verb"

say() { printf '[wordnet] %s\n' "$*" >&2; }
fail() { printf '[wordnet] %s\n' "$*" >&2; exit 1; }

complete() {  # complete FOLDER
  (cd "$1/$FILES" 2>/dev/null && sha256sum --check --status <<<"${HASHES:1}")
}

! complete "$FOLDER" || exit 0
ELSEWHERE="name a folder that has its data files with --wordnet"
command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
  fail "there is no apt here to fetch WordNet with: $ELSEWHERE."
say "fetching WordNet 3.0 (Debian's wordnet-base)"
download_debs "$FOLDER.partial" "" wordnet-base ||
  fail "wordnet-base could not be fetched (see above): $ELSEWHERE."
complete "$FOLDER.partial" ||
  fail "wordnet-base holds other files than those of WordNet 3.0: $ELSEWHERE."
rm -rf "$FOLDER" && mv "$FOLDER.partial" "$FOLDER"
