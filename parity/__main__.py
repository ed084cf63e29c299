"""python -m parity VERB, or twincaps VERB: every check and tool, each a function of a module."""

import platform
import sys
from collections.abc import Sequence

from parity import cli

# verb -> module, function (its signature is the command line), what it does
VERBS = {
    "train": ("parity.cli", "main", "train a network, as train.py does"),
    "evaluate": (
        "parity.cli.evaluate",
        "evaluate",
        "test accuracy of a run, or of weights in a file",
    ),
    "predict": ("parity.predict.verb", "predict", "what a network says of your pictures"),
    "figures": ("parity.figures.command", "figures", "pictures of a run: curves, capsules, errors"),
    "explore": ("parity.explorer.verb", "explore", "a page to draw on and look into a network"),
    "check": ("parity.compare.verbs", "check", "the ladder: are the two wings one network?"),
    "trace": ("parity.compare.verbs", "trace", "every tensor of one pass of one wing, to a file"),
    "compare": ("parity.compare.verbs", "compare", "two such files, and the first that differs"),
    "conformance": ("parity.conformance", "main", "somebody's squash, routing or loss checked"),
    "diff": ("parity.diff.verb", "diff", "any two models, and the first tensor that differs"),
    "data": ("parity.data.listing", "listing", "the data sets, which are here, how to get others"),
    "convert": ("parity.convert.verbs", "convert", "weights from one framework or file to another"),
    "export": ("parity.export.verb", "export", "a network as a file that others run: ONNX"),
    "inspect": ("parity.convert.verbs", "inspect", "what a file of weights or a run holds"),
}


def main(argv: Sequence[str], prog: str = "python -m parity") -> int:
    """Runs one verb; returns the exit code.

    Args:
        argv: The verb and its arguments.
        prog: How the program was started, for its help.
    """
    return cli.steadily(lambda: _main(argv, prog))


def script() -> int:
    """The console script `twincaps`; returns the exit code."""
    return main(sys.argv[1:], "twincaps")


def _main(argv: Sequence[str], prog: str) -> int:
    listing = "\n".join(f"  {verb:<12} {says}" for verb, (_, _, says) in VERBS.items())
    usage = (
        f"usage: {prog} VERB ...\n\n{listing}\n\n{prog} VERB --help says more, "
        f"{prog} --version which versions are installed"
    )
    verb, *rest = argv or [""]
    if verb in ("-h", "--help"):
        print(usage)
        return 0
    if verb == "--version":
        print(_versions())
        return 0
    if verb not in VERBS:
        fault = f"verb {verb!r} is unknown" if verb else "a verb is missing"
        print(f"error: {fault}; expected one of {', '.join(VERBS)}\n{usage}", file=sys.stderr)
        return 2
    if verb == "train":  # its defaults depend on its flags, so it parses them itself
        return cli.main(rest, f"{prog} {verb}")
    module, function, _ = VERBS[verb]
    return cli.call(module, function, rest, f"{prog} {verb}")


def _versions() -> str:
    """This package, Python and the frameworks that are installed, a line each."""
    from parity.runs import checkpoints

    versions = {"twincaps": "not installed", "python": platform.python_version()}
    names = ("twincaps", "torch", "jax", "flax", "optax", "numpy")
    versions |= {n: v for n, v in checkpoints.versions().items() if n in names}
    return "\n".join(f"{name} {version}" for name, version in versions.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
