#!/usr/bin/env bash
# Resolves the locked versions anew. Review the diff before you commit it.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/uv pip compile -q --upgrade --python-version 3.11 \
  --python-platform x86_64-manylinux_2_39 --no-header --no-emit-index-url \
  --no-annotate setup.py --all-extras -o constraints/python3.11.txt
