"""Program: CTranslate2's own conversion of a checkpoint without a tokenizer."""

import pathlib
import sys

import transformers
from ctranslate2.converters import TransformersConverter


class _Numbers:
    """Words that are their own ids, in the place of a tokenizer."""

    pad_token, eos_token, unk_token = "0", "1", "2"

    def __init__(self, size: int):
        self.size = size

    def get_vocab(self) -> dict[str, int]:
        return {str(number): number for number in range(self.size)}

    def convert_ids_to_tokens(self, number: int) -> str:
        return str(number)


class _Converter(TransformersConverter):
    def load_tokenizer(self, tokenizer_class, model_name_or_path, **options):
        config = transformers.AutoConfig.from_pretrained(model_name_or_path)
        return _Numbers(config.vocab_size)


def main(checkpoint: str, directory: str) -> None:
    """Writes a model of CTranslate2; its directory must not be there."""
    partial = pathlib.Path(f"{directory}.partial")
    _Converter(checkpoint).convert(partial, force=True)
    partial.rename(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
