"""The terminal screen of a review: read, press one key a question, and the label is on disk."""

from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Key
from textual.widgets import Input, Static

from promptops.core.errors import PromptopsError
from promptops.core.rubric import Criterion, CriterionScore
from promptops.core.suite import Suite
from promptops.evaluation.review import Desk, Place, Reviewing, reference_of
from promptops.report.review import as_text, place_view
from promptops.report.show import show

_CSS = """
Screen { layout: vertical; }
#head { height: auto; max-height: 3; padding: 0 1; background: $panel; }
#body { height: 1fr; padding: 0 1; }
#body:focus { background-tint: $foreground 2%; }
#ask { height: auto; max-height: 50%; border-top: solid $primary; padding: 0 1; overflow-y: auto; }
#note { display: none; height: 3; }
#note.open { display: block; }
#keys { height: auto; padding: 0 1; color: $text-muted; background: $panel; }
"""
_BAR = 24


def run_screen(desk: Desk, suite: Suite) -> None:
    """Show the answers of a batch one after the other until it is done or the reviewer leaves. Raises what writing a label raises."""
    screen = ReviewScreen(Reviewing(desk), suite)
    screen.run(mouse=False)
    if screen.failure is not None:
        raise screen.failure


class Draft:
    """What has been said of the answer on the screen: a score a question, then the whole. `focus` is the question in turn."""

    def __init__(self, place: Place) -> None:
        self.criteria = place.criteria
        self.scores: dict[str, CriterionScore] = dict(place.verdicts)
        self.passed, self.note, self.focus = place.passed, place.note, 0
        if self.complete:
            self.focus = len(self.criteria)

    @property
    def complete(self) -> bool:
        return all(criterion.id in self.scores for criterion in self.criteria)

    @property
    def question(self) -> Criterion | None:
        """The one in turn; None for the answer as a whole."""
        return self.criteria[self.focus] if self.focus < len(self.criteria) else None

    def say(self, score: CriterionScore) -> bool:
        """Take a score for the question in turn, if its scale has it, and go to the next without one."""
        question = self.question
        if question is None:
            if not isinstance(score, bool):
                return False
            self.passed = score
            return True
        if not question.allows(score):
            return False
        self.scores[question.id] = score
        self.passed = None
        waiting = [index for index, criterion in enumerate(self.criteria) if criterion.id not in self.scores]
        self.focus = next(
            (index for index in waiting if index > self.focus), waiting[0] if waiting else len(self.criteria)
        )
        return True

    def move(self, step: int) -> None:
        self.focus = min(max(0, self.focus + step), len(self.criteria) if self.complete else len(self.criteria) - 1)


class ReviewScreen(App[None]):
    """One answer at a time; every key that says something is shown at the bottom."""

    CSS = _CSS
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,p", "say_yes", show=False), Binding("n,f", "say_no", show=False), Binding("enter", "save", show=False),
        Binding("up,k", "move(-1)", show=False), Binding("down,j,tab", "move(1)", show=False),
        Binding("s", "skip", show=False), Binding("u", "undo", show=False), Binding("c", "note", show=False),
        Binding("space,pagedown", "scroll(1)", show=False), Binding("b,pageup", "scroll(-1)", show=False),
        Binding("q,ctrl+c,ctrl+q", "leave", show=False, priority=False), Binding("escape", "close_note", show=False),
    ]  # fmt: skip

    def __init__(self, reviewing: Reviewing, suite: Suite) -> None:
        super().__init__()
        self.reviewing, self.suite = reviewing, suite
        self.failure: PromptopsError | None = None
        self.place = reviewing.place()
        self.draft = Draft(self.place)
        self.said = ""

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield VerticalScroll(Static(id="text"), id="body")
        yield Vertical(Static(id="questions"), id="ask")
        yield Input(placeholder="note, Enter keeps it", max_length=2000, id="note")
        yield Static(id="keys")

    def on_mount(self) -> None:
        self.query_one("#body").focus()
        self._show()

    def on_key(self, event: Key) -> None:
        if event.character and event.character in "12345" and not isinstance(self.focused, Input):
            self._say(int(event.character))

    def action_say_yes(self) -> None:
        self._say(True)

    def action_say_no(self) -> None:
        self._say(False)

    def action_move(self, step: int) -> None:
        self.draft.move(step)
        self._show(scroll=False)

    def action_scroll(self, step: int) -> None:
        body = self.query_one("#body", VerticalScroll)
        body.scroll_relative(y=step * max(1, body.size.height - 2), animate=False)

    def action_skip(self) -> None:
        if self.place.item is not None:
            item = self.place.item.id
            self._go(lambda: self.reviewing.skip(item), "skipped; it comes again at the end")

    def action_undo(self) -> None:
        if self.place.undoable:
            self._go(self.reviewing.undo, "taken back; change it, and Enter keeps it again")
        else:
            self._tell("nothing to take back")

    def action_save(self) -> None:
        item = self.place.item
        if item is None:
            self.exit()
            return
        if not self.draft.complete:
            self._tell("answer every question first, or skip with s")
            return
        scores, note = self.draft.scores, self.draft.note
        passed = self._whole()
        word = "pass" if passed else "fail"
        self._go(
            lambda: self.reviewing.label(item.id, scores, passed=passed, note=note), f"saved: {item.case_id} {word}"
        )

    def action_note(self) -> None:
        if self.place.item is not None:
            note = self.query_one("#note", Input)
            note.value = self.draft.note
            note.add_class("open")
            note.focus()

    def action_close_note(self) -> None:
        note = self.query_one("#note", Input)
        note.remove_class("open")
        self.query_one("#body").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.draft.note = event.value
        self.action_close_note()
        self._show(scroll=False)

    def action_leave(self) -> None:
        self.exit()

    def _say(self, score: CriterionScore) -> None:
        if self.place.item is None:
            return
        if not self.draft.say(score):
            question = self.draft.question
            wanted = "y or n" if question is None or question.scale == "pass_fail" else "1 to 5"
            self._tell(f"this question takes {wanted}")
            return
        self.said = ""
        self._show(scroll=False)

    def _whole(self) -> bool:
        assert self.place.item is not None
        if self.draft.passed is not None:
            return self.draft.passed
        return self.reviewing.proposal(self.place.item.id, self.draft.scores)

    def _go(self, step: "object", said: str) -> None:
        assert callable(step)
        try:
            self.place = step()
        except PromptopsError as error:
            self.failure = error
            self.exit()
            return
        self.draft, self.said = Draft(self.place), said
        self._show()

    def _tell(self, text: str) -> None:
        self.said = text
        self._show(scroll=False)

    def _show(self, *, scroll: bool = True) -> None:
        self.query_one("#head", Static).update(self._head())
        self.query_one("#text", Static).update(self._text())
        self.query_one("#questions", Static).update(self._questions())
        keys = "Enter save   y/n or 1-5 answer   ↑↓ question   s skip   u undo   c note   Space/b scroll   q quit"
        self.query_one("#keys", Static).update(Text("Enter or q: leave   u undo" if self.place.item is None else keys))
        if scroll:
            self.query_one("#body", VerticalScroll).scroll_home(animate=False)

    def _head(self) -> Text:
        place = self.place
        filled = round(_BAR * place.done / place.total)
        skipped = f", {place.skipped} skipped" if place.skipped else ""
        return Text.assemble((f"{self.reviewing.batch.prompt}  ", "bold"), ("█" * filled, "green"), ("░" * (_BAR - filled), "dim"),
                             f"  {place.done} of {place.total} labelled{skipped}", "  ", show(self.said, style="italic"))  # fmt: skip

    def _text(self) -> Text:
        place = self.place
        if place.item is None:
            return Text.assemble(
                ("\nAll labelled. ", "bold green"),
                f"Everything is in golden/{self.reviewing.batch.prompt}.labels.jsonl.\n",
            )
        view = place_view(place, self.reviewing.rubric, self.reviewing.batch, reference_of(place.item, self.suite))[
            "item"
        ]
        parts: list[Text] = [Text.assemble(("category ", "dim"), show(view["category"]))]
        for name, found in view["inputs"]:
            parts += [Text(""), Text.assemble(("INPUT  ", "bold cyan"), show(name, style="dim")), as_text(found)]
        legend = Text("  words the reference lacks are coloured", style="dim") if view["compared"] else Text("")
        parts += [
            Text(""),
            Text.assemble(("ANSWER", "bold green"), legend),
            as_text(view["answer"], compared=view["compared"]) if view["answer"] else Text("(empty)", style="dim"),
        ]
        for name, found, compared in view["expected"]:
            title = "REFERENCE" if compared else "EXPECTED"
            parts += [
                Text(""),
                Text.assemble((f"{title}  ", "bold magenta"), show(name, style="dim")),
                as_text(found, compared=compared),
            ]
        return Text("\n").join(parts)

    def _questions(self) -> Text:
        if self.place.item is None:
            return Text("")
        draft = self.draft
        lines = [self._question(index, criterion) for index, criterion in enumerate(draft.criteria)]
        if draft.complete:
            passed = self._whole()
            by = "" if draft.passed is not None else "  (by the rubric; y or n to overrule)"
            lines.append(Text.assemble(("> " if draft.question is None else "  ", "bold"), ("PASS" if passed else "FAIL", "bold green" if passed else "bold red"),
                                       " as a whole", (by, "dim")))  # fmt: skip
        if draft.note:
            lines.append(Text.assemble("  note: ", show(draft.note, limit=120)))
        return Text("\n").join(lines)

    def _question(self, index: int, criterion: Criterion) -> Text:
        draft, here = self.draft, index == self.draft.focus
        score = draft.scores.get(criterion.id)
        word = "·" if score is None else ("yes" if score else "no") if isinstance(score, bool) else str(score)
        tone = "dim" if score is None else "green" if criterion.passes(score) else "red"
        keys = "" if not here else "  y/n" if criterion.scale == "pass_fail" else "  1-5"
        line = Text.assemble(
            ("> " if here else "  ", "bold"),
            (f"{word:<4}", tone),
            show(criterion.question, style="bold" if here else ""),
            (keys, "dim"),
        )
        if criterion.hard:
            line.append("  must", "dim")
        if here and criterion.anchors:
            anchors = "\n".join(f"         {point}  {text}" for point, text in sorted(criterion.anchors.items()))
            line.append("\n").append_text(show(anchors, style="dim"))
        return line
