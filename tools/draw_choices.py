"""Draw the tree of docs/guide/choosing.md: ``python tools/draw_choices.py``.

Cards have grounds of their own and lines a middle gray, so it reads on light and dark pages.
"""

from html import escape
from pathlib import Path

PATH = Path(__file__).parents[1] / "docs" / "guide" / "choosing.svg"
WIDTH, ROW, GAP, LEFT = 470, 34, 26, 40
START = "TransferClassifier().fit(X, y)"
QUESTIONS = {
    "How many images, how much time?": {
        "a few, seconds": "as it is",
        "five a class, minutes": 'fine_tune_stage="top"',
        "would more help?": "learning_curve(clf, X, y)",
    },
    "How large, which shape?": {
        "fine detail decides": "image_size=224",
        "long or tall pictures": 'aspect="crop"',
        "any other": "as it is",
    },
    "How different from photographs?": {
        "everyday things": "as it is",
        "special photographs": 'fine_tune_stage="top"',
        "drawings, scans": "compare_backbones([...], X, y)",
    },
    "How fast must it answer?": {
        "no hurry": "predict_mirrored=True",
        "a server": 'engine="auto"',
        "a phone": 'export(clf, "a.tflite")',
    },
    "What does a mistake cost?": {
        "someone can be asked": "report.choose_threshold()",
        "rare classes matter": 'class_weight="balanced"',
        "all the same": "as it is",
    },
}


def card(x: float, y: float, width: float, text: str, style: str) -> str:
    """Return one box with its text."""
    return (
        f'<g class="{style}"><rect x="{x}" y="{y}" width="{width}" height="{ROW - 6}" rx="5"/>'
        f'<text x="{x + 10}" y="{y + 19}">{escape(text)}</text></g>'
    )


def draw() -> str:
    """Return the tree as SVG: questions one below the other, answers and lines of code beside."""
    parts, lines, y = [card(0, 2, WIDTH, START, "code")], [], 2.0
    for number, (question, answers) in enumerate(QUESTIONS.items(), start=1):
        y += ROW + GAP - 6
        lines.append(f"M16 {y - GAP - 2 if number == 1 else y - GAP - len(answers) * ROW}V{y}")
        parts.append(card(0, y, WIDTH, f"{number}. {question}", "question"))
        for answer, code in answers.items():
            y += ROW
            lines.append(f"M16 {y - ROW}V{y + 14}H{LEFT}M{LEFT + 165} {y + 14}h14")
            parts.append(card(LEFT, y, 165, answer, "answer"))
            style = "plain" if code == "as it is" else "code"
            parts.append(card(LEFT + 179, y, WIDTH - LEFT - 179, code, style))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 0 {WIDTH + 2} {y + ROW}" '
        f'width="{WIDTH}" role="img"><title>Five questions and what to set</title><style>'
        "text{font:13px system-ui,sans-serif;fill:#1a237e}.code text{font-family:ui-monospace,"
        "monospace;font-size:12px}rect{fill:#eef0fb;stroke:#9fa8da}.question rect{fill:#3f51b5}"
        ".question text{fill:#fff;font-weight:600}.answer rect{fill:#fff}.plain rect{fill:#f5f5f5;"
        "stroke:#bdbdbd}.plain text{fill:#616161}path{fill:none;stroke:#888;stroke-width:1.5}"
        f'</style><path d="{"".join(lines)}"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    PATH.write_text(draw(), encoding="utf-8")
