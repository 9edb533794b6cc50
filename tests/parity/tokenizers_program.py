"""Has `transformers` make a T5 tokeniser of pieces, and use it."""

import base64
import json
import pathlib
import sys

import transformers


def main(folder: str) -> None:
    """Reads `pieces.json` and `texts.json`; writes a tokeniser and ids."""
    root = pathlib.Path(folder)
    given = json.loads((root / "pieces.json").read_text())
    tokenizer = transformers.T5Tokenizer(
        vocab=[tuple(piece) for piece in given["vocab"]],
        _spm_precompiled_charsmap=base64.b64decode(given["charsmap"]),
        extra_ids=5,
    )
    tokenizer.save_pretrained(root / "theirs")
    texts = json.loads((root / "texts.json").read_text())
    ids = [tokenizer(text)["input_ids"] for text in texts]
    (root / "ids.json").write_text(json.dumps(ids))


if __name__ == "__main__":
    main(sys.argv[1])
