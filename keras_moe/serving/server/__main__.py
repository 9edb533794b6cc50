"""`python -m keras_moe.serving.server`."""

from keras_moe.serving.server._server import main

if __name__ == "__main__":
    main()
