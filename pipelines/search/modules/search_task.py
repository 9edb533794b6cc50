"""The IndexBuilder component's code: queries to tune on, and the export."""

from keras_moe.components import SearchTask
from keras_moe.components import SearchTaskArgs
from pipelines.search.modules.batches import read_glosses
from pipelines.search.modules.exporting import export_search


def search_task(args: SearchTaskArgs) -> SearchTask:
    """Embeds the glosses of the calibration split.

    Args:
        args: `custom_config` holds `k` and `max_queries`, see `IndexConfig`.
    """
    model = args.encoder
    # Files are in a random order: the first are a fair sample.
    glosses = read_glosses(args.example_files)
    glosses = glosses[: args.custom_config["max_queries"]]

    def export(directory, index) -> None:
        export_search(model, index, directory, args.custom_config["k"])

    return SearchTask(
        queries=model.encode_queries(glosses).numpy(), export=export
    )
