"""python -m parity VERB: every check and tool, each a function of a module."""

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


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit code."""
    return cli.steadily(lambda: _main(argv))


def _main(argv: Sequence[str]) -> int:
    listing = "\n".join(f"  {verb:<12} {says}" for verb, (_, _, says) in VERBS.items())
    usage = (
        f"usage: python -m parity VERB ...\n\n{listing}\n\npython -m parity VERB --help says more"
    )
    verb, *rest = argv or [""]
    if verb in ("-h", "--help"):
        print(usage)
        return 0
    if verb not in VERBS:
        fault = f"verb {verb!r} is unknown" if verb else "a verb is missing"
        print(f"error: {fault}; expected one of {', '.join(VERBS)}\n{usage}", file=sys.stderr)
        return 2
    prog = f"python -m parity {verb}"
    if verb == "train":  # its defaults depend on its flags, so it parses them itself
        return cli.main(rest, prog)
    module, function, _ = VERBS[verb]
    return cli.call(module, function, rest, prog)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
