"""Fill the measured figures into the model cards: `python tools/card.py srresnet srgan`.

What `python -m enhancer.card` does, and the table of DICOM images besides.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cxr_sr.stored import StoredReader
from enhancer import card


def main() -> int:
    """Run with a reader of DICOM."""
    with StoredReader() as reader:
        return card.main(sys.argv[1:], reader)


if __name__ == "__main__":
    sys.exit(main())
