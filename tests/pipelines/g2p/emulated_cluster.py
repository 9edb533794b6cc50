"""Runs a compiled pipeline as Kubeflow would, without containers.

Each task's command is TFX's entry point with arguments; it is called in this
process, which has imported what takes a container a quarter of a minute. What
the cluster does, this does: the order, the artifacts' places and metadata, the
queries of resolvers (which find nothing here). Specifications of schema 2.1.
"""

import importlib
import json
import pathlib


class EmulatedCluster:
    def __init__(self, job, root, parameters):
        spec = job["pipelineSpec"]
        self._spec = spec
        self._root = pathlib.Path(root)
        self._parameters = parameters
        self._made = {}
        self.order = []

    def run(self):
        """Runs all tasks; returns the artifacts by task and key."""
        tasks = self._spec["root"]["dag"]["tasks"]
        waiting = dict(tasks)
        while waiting:
            ready = [
                name
                for name, task in waiting.items()
                if not set(task.get("dependentTasks", ())) & set(waiting)
            ]
            assert ready, f"these wait for one another: {sorted(waiting)}"
            for name in sorted(ready):
                self._run_task(name, waiting.pop(name))
                self.order.append(name)
        return self._made

    def _run_task(self, name, task):
        component = self._spec["components"][task["componentRef"]["name"]]
        executor = self._spec["deploymentSpec"]["executors"][
            component["executorLabel"]
        ]
        if "resolver" in executor:
            self._made[name] = {}
            return
        container = executor["container"]
        folder = self._root / name
        given = {
            "inputs": self._inputs(task, component),
            "outputs": {
                "artifacts": {
                    key: {
                        "artifacts": [
                            {
                                "name": f"{name}/{key}",
                                "uri": str(folder / key),
                                "type": definition["artifactType"],
                            }
                        ]
                    }
                    for key, definition in component["outputDefinitions"][
                        "artifacts"
                    ].items()
                },
                "outputFile": str(folder / "executor_output.json"),
            },
        }
        hook = container.get("lifecycle", {}).get("preCacheCheck")
        for command in filter(None, (hook, container)):
            self._run_command(command, given)
        said = json.loads((folder / "executor_output.json").read_text())
        self._made[name] = {
            key: self._known(
                given["outputs"]["artifacts"][key]["artifacts"][0],
                said.get("artifacts", {}).get(key),
            )
            for key in given["outputs"]["artifacts"]
        }

    def _inputs(self, task, component):
        inputs = task.get("inputs", {})
        artifacts, values = {}, {}
        for key, source in inputs.get("artifacts", {}).items():
            producer = source["taskOutputArtifact"]
            made = self._made[producer["producerTask"]].get(
                producer["outputArtifactKey"]
            )
            if made is not None:
                artifacts[key] = {"artifacts": [made]}
        for key, source in inputs.get("parameters", {}).items():
            if "componentInputParameter" in source:
                name = source["componentInputParameter"]
                values[key] = self._parameters[name]
            else:
                values[key] = source["runtimeValue"]["constant"]
        return {"artifacts": artifacts, "parameterValues": values}

    @staticmethod
    def _run_command(command, given):
        python, flag, module = command["command"]
        assert (python, flag) == ("python", "-m")
        entry_point = importlib.import_module(module)
        arguments = [
            json.dumps(given) if argument == "{{$}}" else argument
            for argument in command["args"]
        ]
        entry_point.main(entry_point._parse_flags(arguments))

    @staticmethod
    def _known(artifact, said):
        """An artifact with the metadata that its maker wrote down."""
        if not said:
            return artifact
        return artifact | {
            key: value
            for key, value in said["artifacts"][0].items()
            if key in ("metadata", "uri")
        }
