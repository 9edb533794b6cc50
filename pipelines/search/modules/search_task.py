"""The IndexBuilder component's code: queries to tune on, and the export."""

from keras_moe.components import SearchTask
from keras_moe.components import SearchTaskArgs
from pipelines.search.modules.batches import read_glosses
from pipelines.search.modules.exporting import export_search


def search_task(args: SearchTaskArgs) -> SearchTask:
    """Embeds the glosses of the calibration split.

    Args:
        args: `custom_config` holds `k`, how many answers a request has that
            does not say.
    """
    model = args.encoder
    glosses = read_glosses(args.example_files)

    def export(directory, index) -> None:
        export_search(model, index, directory, args.custom_config["k"])

    return SearchTask(
        queries=model.encode_queries(glosses).numpy(), export=export
    )
