"use strict";
// Everything shown is a text node: no text of a model is ever parsed as markup.
(() => {
  const at = (id) => document.getElementById(id);
  const FINISHED = "Finished. You can close this page; the terminal shows the result.";
  const token = takeToken();
  let view = null;    // what the server said last
  let draft = null;   // what has been said of the answer on the page
  let busy = false;

  // The link from the terminal carries the token behind #, which no server or referrer sees; a reload finds it in this tab.
  function takeToken() {
    const given = location.hash.slice(1);
    if (/^[A-Za-z0-9_-]{20,}$/.test(given)) {
      sessionStorage.setItem("token", given);
      history.replaceState(null, "", location.pathname);
      return given;
    }
    return sessionStorage.getItem("token") || "";
  }

  function make(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    for (const child of children) node.append(child);
    return node;
  }

  function fill(node, pieces, differs) {
    node.replaceChildren(...pieces.map(([kind, text]) => {
      if (kind === "mark") { const unseen = make("span", "unseen", text); unseen.title = "a character that cannot be seen"; return unseen; }
      if (kind === "twin") { const twin = make("span", "twin", text); twin.title = "a letter of another script than the word around it"; return twin; }
      return differs && kind !== "same" && text.trim() ? make("mark", "differs", text) : document.createTextNode(text);
    }));
    if (!pieces.length || pieces.every(([, text]) => text === "")) node.append(make("span", "empty", "(empty)"));
    const long = pieces.reduce((sum, [, text]) => sum + text.length, 0) > 6000;
    node.classList.toggle("long", long);
    if (long) node.tabIndex = 0; else node.removeAttribute("tabindex");
    return node;
  }

  function card(title, pieces, differs) {
    const text = make("div", "text");
    text.dir = "auto";
    const head = make("h2", "", title);
    head.dir = "auto";
    return make("section", "card", head, fill(text, pieces, differs));
  }

  async function ask(path, body) {
    const answer = await fetch("/api/" + path, {
      method: "POST", cache: "no-store", credentials: "omit",
      headers: { "Content-Type": "application/json", "X-Promptops-Token": token }, body: JSON.stringify(body || {}),
    });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  }

  // One request at a time: what the reviewer does meanwhile is not lost but refused, and nothing is sent twice.
  async function go(path, body, said) {
    if (busy) return;
    busy = true;
    buttons();
    try {
      const found = await ask(path, body);
      at("problem").hidden = true;
      show(found);
      tell(said || "");
    } catch (error) {
      at("problem").textContent = error instanceof TypeError
        ? "The review is not running any more. What you saved is kept; start it again in the terminal." : error.message;
      at("problem").hidden = false;
    } finally {
      busy = false;
      buttons();
    }
  }

  const tell = (text) => { at("status").textContent = text; };
  const key = () => `draft ${view.batch} ${view.item.id}`;
  const remember = () => sessionStorage.setItem(key(), JSON.stringify(draft));

  function recall(item) {
    const kept = sessionStorage.getItem(key());
    if (kept) return JSON.parse(kept);
    return { scores: { ...item.verdicts }, passed: item.passed, note: item.note, focus: 0, byRubric: null };
  }

  function show(found) {
    view = found;
    document.title = `${found.done}/${found.total} ${found.prompt}: review`;
    at("prompt").textContent = found.prompt;
    at("count").textContent = `${found.done} of ${found.total} labelled` + (found.skipped ? `, ${found.skipped} skipped` : "");
    at("bar").style.width = `${100 * found.done / found.total}%`;
    const progress = at("progress");
    progress.setAttribute("aria-valuemax", found.total);
    progress.setAttribute("aria-valuenow", found.done);
    at("file").textContent = `golden/${found.prompt}.labels.jsonl`;
    at("work").hidden = !found.item;
    at("done").hidden = Boolean(found.item);
    if (!found.item) { draft = null; at("done-title").focus(); return; }
    const item = found.item;
    at("category").textContent = item.category;
    at("inputs").replaceChildren(...item.inputs.map(([name, pieces]) => card(`Input: ${name}`, pieces)));
    fill(at("answer"), item.answer, item.compared);
    at("legend").hidden = !item.compared || !item.answer.some(([kind, text]) => kind === "" && text.trim());
    at("expected").replaceChildren(...item.expected.map(([name, pieces, reference]) => card(`${reference ? "Reference" : "Expected"}: ${name}`, pieces, reference)));
    draft = recall(item);
    if (complete()) draft.focus = item.criteria.length;
    at("note").value = draft.note;
    questions();
    scrollTo(0, 0);
    at("reading").focus({ preventScroll: true });
    if (complete() && draft.byRubric === null) propose();
  }

  const complete = () => view.item.criteria.every((criterion) => criterion.id in draft.scores);

  function choice(label, pressed, tone, act) {
    const button = make("button", tone, label);
    button.type = "button";
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", pressed ? "true" : "false");
    button.addEventListener("click", act);
    return button;
  }

  function questions() {
    const item = view.item;
    at("questions").replaceChildren(...item.criteria.map((criterion, index) => {
      const said = draft.scores[criterion.id];
      const title = make("p", "question", make("span", "", criterion.question));
      title.id = `question-${index}`;
      title.dir = "auto";
      if (criterion.hard) title.append(" ", make("span", "must", "must hold"));
      const values = criterion.scale === "pass_fail" ? [[true, "Yes", "good"], [false, "No", "bad"]] : [1, 2, 3, 4, 5].map((value) => [value, String(value), ""]);
      const choices = make("div", "choices", ...values.map(([value, label, tone]) => choice(label, said === value, tone, () => { draft.focus = index; say(value); })));
      const node = make("div", "criterion" + (draft.focus === index ? " here" : ""), title, choices);
      node.setAttribute("role", "radiogroup");
      node.setAttribute("aria-labelledby", title.id);
      const anchors = Object.entries(criterion.anchors);
      if (anchors.length) node.append(make("ul", "anchors", ...anchors.map(([point, text]) => make("li", "", make("b", "", point), make("span", "", text)))));
      return node;
    }));
    const passed = draft.passed === null ? draft.byRubric : draft.passed;
    at("whole").classList.toggle("here", draft.focus === item.criteria.length);
    at("whole").hidden = !complete();
    at("whole-why").textContent = draft.passed === null ? "(by the rubric; you may overrule it)" : draft.byRubric === draft.passed ? "" : "(you overrule the rubric)";
    at("whole-choices").replaceChildren(
      choice("Pass", passed === true, "good", () => { draft.focus = item.criteria.length; say(true); }),
      choice("Fail", passed === false, "bad", () => { draft.focus = item.criteria.length; say(false); }));
    const here = document.querySelector(".here");
    if (here) here.scrollIntoView({ block: "nearest" });
    buttons();
  }

  function buttons() {
    at("save").disabled = busy || !view || !view.item || !complete() || (draft.passed === null && draft.byRubric === null);
    at("later").disabled = busy || !view || !view.item;
    at("undo").disabled = at("undo-last").disabled = busy || !view || !view.undoable;
  }

  async function propose() {
    const item = view.item;
    try {
      const found = await ask("propose", { item: item.id, verdicts: draft.scores });
      if (view.item !== item) return;
      draft.byRubric = found.passed;
      remember();
      questions();
    } catch (error) {
      at("problem").textContent = error.message;
      at("problem").hidden = false;
    }
  }

  function say(value) {
    const criteria = view.item.criteria;
    const criterion = criteria[draft.focus];
    if (!criterion) {
      if (typeof value !== "boolean") return tell("this question takes Y or N");
      draft.passed = value;
    } else {
      if ((criterion.scale === "pass_fail") !== (typeof value === "boolean")) return tell(`this question takes ${criterion.scale === "pass_fail" ? "Y or N" : "1 to 5"}`);
      draft.scores[criterion.id] = value;
      draft.passed = draft.byRubric = null;
      const waiting = criteria.map((one, index) => index).filter((index) => !(criteria[index].id in draft.scores));
      draft.focus = waiting.find((index) => index > draft.focus) ?? waiting[0] ?? criteria.length;
    }
    tell("");
    remember();
    questions();
    if (complete() && draft.byRubric === null) propose();
  }

  function move(step) {
    draft.focus = Math.min(Math.max(0, draft.focus + step), view.item.criteria.length - (complete() ? 0 : 1));
    questions();
  }

  function save() {
    if (at("save").disabled) return tell(complete() ? "" : "answer every question first, or skip");
    const passed = draft.passed === null ? draft.byRubric : draft.passed;
    const item = view.item.id, kept = key();
    go("label", { item, verdicts: draft.scores, passed, note: at("note").value }, "Saved.").then(() => {
      if (!view.item || view.item.id !== item) sessionStorage.removeItem(kept);
    });
  }

  const later = () => go("skip", { item: view.item.id }, "Skipped; it comes again at the end.");
  function undo() {
    if (!view.undoable) return tell("nothing to take back");
    go("undo", {}, "Taken back; change it, and save it again.");
  }
  async function finish() {
    try { await ask("finish"); } catch { /* it ends while it answers */ }
    at("work").hidden = at("done").hidden = true;
    sessionStorage.clear();
    tell(FINISHED);
  }

  at("save").addEventListener("click", save);
  at("later").addEventListener("click", later);
  at("undo").addEventListener("click", undo);
  at("undo-last").addEventListener("click", undo);
  at("finish").addEventListener("click", finish);
  at("verdict").addEventListener("submit", (event) => event.preventDefault());
  at("note").addEventListener("input", () => { draft.note = at("note").value; remember(); });

  document.addEventListener("keydown", (event) => {
    if (!view || event.altKey || event.metaKey || event.isComposing) return;
    if (event.target === at("note")) {
      if (event.key === "Escape") { event.preventDefault(); at("reading").focus(); }
      if (event.key === "Enter" && event.ctrlKey) { event.preventDefault(); save(); }
      return;
    }
    if (event.ctrlKey) return;
    const action = event.target.closest(".actions button");
    const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (action && (pressed === "Enter" || pressed === " ")) return;
    const keys = view.item ? {
      y: () => say(true), p: () => say(true), n: () => say(false), f: () => say(false), s: later, u: undo, c: () => at("note").focus(), Enter: save,
      ArrowUp: () => move(-1), ArrowDown: () => move(1), k: () => move(-1), j: () => move(1),
    } : { u: undo, Enter: finish };
    const act = keys[pressed] || (view.item && /^[1-5]$/.test(pressed) ? () => say(Number(pressed)) : null);
    if (act) { event.preventDefault(); act(); }
  });

  if (token) go("state");
  else {
    at("problem").textContent = "Open the link that the terminal shows: it carries the key to this page.";
    at("problem").hidden = false;
  }
})();
