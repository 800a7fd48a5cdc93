"""``python -m swinlet``: the command ``swinlet`` where its folder is not on the PATH."""

from swinlet.cli import run

if __name__ == "__main__":
    run()
