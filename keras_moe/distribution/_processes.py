"""Processes whose devices form one mesh."""

import os

import keras

from keras_moe.distribution._tf_config import read_tf_config

# Jobs whose tasks train, in the order in which their processes are numbered.
_JOBS = ("chief", "worker")


def initialize() -> None:
    """Joins this process to the others that `TF_CONFIG` lists.

    From then on `device_mesh` takes the devices of all of them, in the order
    of the list. Each process runs the same program: it makes the same model
    with the same seed, and gives `fit` or a training step the same whole
    batches, of which it computes the part of its devices. What reads a value
    that lies in several processes (`numpy`, `gather`, `save`) is for all of
    them to call, in one order. The function waits for all processes; they end
    together.

    On a CPU, logical devices can be made first, as many in each process, by
    `tf.config.set_logical_device_configuration`.

    Raises:
        ValueError: if `TF_CONFIG` is missing or malformed, or gives this
            process a task other than `"chief"` or `"worker"`.
        RuntimeError: if TensorFlow has computed something before: call this
            first thing in the program; on another backend than TensorFlow.

    Example of what each of two processes runs, `TF_CONFIG` being set to
    `{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task":
    {"type": "worker", "index": 0}}` in the first, with index 1 in the second:

    ```python
    keras_moe.distribution.initialize()
    keras.utils.set_random_seed(0)
    mesh = keras_moe.distribution.device_mesh(expert=2)
    engine = keras_moe.distribution.engine(mesh)
    engine.distribute(model)
    model.fit(batches)
    ```
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            "Processes are joined on Keras's TensorFlow backend alone. "
            f"Received: keras.backend.backend()={backend!r}."
        )
    from tensorflow.experimental import dtensor

    config = read_tf_config()
    if config.job not in _JOBS:
        raise ValueError(
            'The "task" in `TF_CONFIG` must be a "chief" or a "worker", whose '
            f'devices form a mesh. Received: "{config.job}".'
        )
    tasks = [
        (job, index, address)
        for job in _JOBS
        for index, address in enumerate(config.cluster.get(job, []))
    ]
    number = [task[:2] for task in tasks].index((config.job, config.task))
    variables = {
        "DTENSOR_JOB_NAME": "worker",
        "DTENSOR_JOBS": ",".join(address for _, _, address in tasks),
        "DTENSOR_NUM_CLIENTS": str(len(tasks)),
        "DTENSOR_CLIENT_ID": str(number),
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        dtensor.initialize_accelerator_system()
    except ValueError as error:
        # Put the variables back: DTensor reads them whenever it starts, and
        # would count on processes that never joined.
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
        raise RuntimeError(
            "Processes must be joined before TensorFlow computes anything, and "
            "once: call this first thing in the program, before models and "
            f"data. TensorFlow says: {error}"
        ) from error


def list_devices() -> list[list[str]]:
    """Names the devices of each process, those of the first before others'.

    Returns:
        A list for each process: of `"cpu:0"` and the like if this one is the
        only one, of TensorFlow's full names if there are several.
    """
    if keras.backend.backend() == "tensorflow":
        from tensorflow.experimental import dtensor

        if (count := dtensor.num_clients()) > 1:
            kind = dtensor.preferred_device_type()
            return [
                [
                    spec.to_string()
                    for spec in dtensor.local_devices(kind, number)
                ]
                for number in range(count)
            ]
    return [keras.distribution.list_devices()]
