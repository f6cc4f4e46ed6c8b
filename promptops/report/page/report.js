"use strict";
// Everything shown is a text node: no text of a model is ever parsed as markup.
(() => {
  const PAGE = 200;
  const MOST_WORDS = 4000;
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const [search, state, category, slice, list, detail, count] = ["search", "state", "category", "slice", "list", "detail", "count"].map(at);
  const prompt = at("prompt");
  const STATES = [
    ["attention", "not passed", (c) => c.result !== "pass"], ["all", "all", () => true], ["broken", "broken", (c) => c.change === "broken"],
    ["fixed", "fixed", (c) => c.change === "fixed"], ["unstable", "unstable (draws differ)", (c) => c.unstable],
    ["unscored", "without a score", (c) => c.result === "unscored"], ["judge", "judge and checks disagree", (c) => c.disagrees],
    ["pass", "passed", (c) => c.result === "pass"],
  ];
  const TONE = { pass: "good", fail: "bad", unscored: "warn", broken: "bad", fixed: "good" };
  let found = [];
  let shown = 0;
  let selected = -1;

  function make(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    for (const child of children) node.append(child);
    return node;
  }

  // Characters that hide, reorder or steer are shown by their code.
  const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

  function visible(text) {
    const parts = document.createDocumentFragment();
    let from = 0;
    for (const match of text.matchAll(HIDDEN)) {
      if (match.index > from) parts.append(text.slice(from, match.index));
      parts.append(make("span", "mark", "U+" + match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")));
      from = match.index + match[0].length;
    }
    if (from < text.length) parts.append(text.slice(from));
    return parts;
  }

  function block(text) {
    const node = make("pre", "text", visible(text));
    node.dir = "auto";
    node.tabIndex = 0;
    return node;
  }

  const words = (text) => (/[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]/.test(text) ? [...text] : text.match(/\s+|[^\s]+/g) || []);

  // The longest common subsequence of words, after what is equal at both ends is taken off.
  function difference(before, after) {
    const a = words(before), b = words(after);
    let head = 0;
    while (head < a.length && head < b.length && a[head] === b[head]) head++;
    let tail = 0;
    while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
    const left = a.slice(head, a.length - tail), right = b.slice(head, b.length - tail);
    if (left.length * right.length > MOST_WORDS * MOST_WORDS / 4) {
      return [a.map((word, i) => [word, i < head || i >= a.length - tail]), b.map((word, i) => [word, i < head || i >= b.length - tail])];
    }
    const width = right.length + 1;
    const length = new Uint16Array((left.length + 1) * width);
    for (let i = left.length - 1; i >= 0; i--) {
      for (let j = right.length - 1; j >= 0; j--) {
        length[i * width + j] = left[i] === right[j] ? length[(i + 1) * width + j + 1] + 1
          : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
      }
    }
    const sides = [a.slice(0, head).map((word) => [word, true]), b.slice(0, head).map((word) => [word, true])];
    let i = 0, j = 0;
    while (i < left.length || j < right.length) {
      if (i < left.length && j < right.length && left[i] === right[j]) {
        sides[0].push([left[i++], true]); sides[1].push([right[j++], true]);
      } else if (j >= right.length || (i < left.length && length[(i + 1) * width + j] >= length[i * width + j + 1])) {
        sides[0].push([left[i++], false]);
      } else {
        sides[1].push([right[j++], false]);
      }
    }
    for (const word of a.slice(a.length - tail)) { sides[0].push([word, true]); sides[1].push([word, true]); }
    return sides;
  }

  function marked(parts, tag) {
    const node = make("pre", "text");
    node.dir = "auto";
    node.tabIndex = 0;
    let run = "";
    let same = true;
    const flush = () => {
      if (run) node.append(same ? visible(run) : make(tag, "", visible(run)));
      run = "";
    };
    for (const [word, equal] of parts) {
      if (equal !== same) { flush(); same = equal; }
      run += word;
    }
    flush();
    if (!parts.length) node.append(make("em", "", "(no text)"));
    return node;
  }

  function options(select, values) {
    select.replaceChildren(...values.map(([value, label]) => {
      const option = make("option", "", label);
      option.value = value;
      return option;
    }));
  }

  function matching() {
    const wanted = STATES.find(([name]) => name === state.value)[2];
    const text = search.value.trim().toLowerCase();
    return data.cases.filter((c) => wanted(c)
      && (!prompt || prompt.value === "" || String(c.evaluation) === prompt.value)
      && (category.value === "" || c.category === category.value)
      && (slice.value === "" || c.tags.includes(slice.value))
      && (text === "" || c.text.includes(text)));
  }

  function pill(text) {
    return make("span", "pill " + (TONE[text] || ""), text);
  }

  function row(c, index) {
    const name = make("b", "", visible(c.id));
    name.dir = "auto";
    const reason = make("small", "", visible([c.category, c.why].filter(Boolean).join(" · ")));
    const node = make("div", "case", name, pill(c.change === "broken" || c.change === "fixed" ? c.change : c.result), reason);
    node.id = "case-" + index;
    node.setAttribute("role", "option");
    node.setAttribute("aria-selected", "false");
    node.addEventListener("click", () => select(index, true));
    return node;
  }

  function extend() {
    list.querySelector(".more")?.remove();
    const until = Math.min(found.length, shown + PAGE);
    for (; shown < until; shown++) list.append(row(found[shown], shown));
    if (shown < found.length) {
      const more = make("button", "more", `Show ${Math.min(PAGE, found.length - shown)} more of ${found.length - shown}`);
      more.type = "button";
      more.addEventListener("click", extend);
      list.append(more);
    }
  }

  function refresh() {
    found = matching();
    list.replaceChildren();
    shown = 0;
    selected = -1;
    extend();
    count.textContent = found.length === data.cases.length ? `${found.length} cases` : `${found.length} of ${data.cases.length} cases`;
    if (found.length) select(0, false);
    else detail.replaceChildren(make("p", "empty", "No case matches. Choose “all”, or clear the search."));
  }

  function select(index, move) {
    if (index < 0 || index >= found.length) return;
    while (index >= shown) extend();
    list.querySelector('[aria-selected="true"]')?.setAttribute("aria-selected", "false");
    const node = at("case-" + index);
    node.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", node.id);
    selected = index;
    if (move) node.scrollIntoView({ block: "nearest" });
    detail.replaceChildren(...parts(found[index]));
    detail.scrollTop = 0;
  }

  function parts(c) {
    const title = make("h3", "", visible(c.id));
    title.dir = "auto";
    const meta = [data.names[c.evaluation], c.category, ...c.tags, `${c.file}:${c.line}`, c.latency, c.cost].filter(Boolean).join(" · ");
    const nodes = [title, make("p", "meta", visible(meta)), make("p", "meta", pill(c.result), " ", visible(c.draws))];
    if (c.change === "broken" || c.change === "fixed") nodes[2].prepend(pill(c.change), " ");
    for (const [name, text] of c.inputs) nodes.push(make("h4", "", visible(name)), block(text));
    if (!c.inputs.length) nodes.push(make("p", "empty", "The golden row is no longer what it was in this run; its inputs are not shown."));
    for (const [name, text] of c.expected) nodes.push(make("h4", "", visible("expected " + name)), block(text));
    if (c.before !== null) {
      const [left, right] = difference(c.before, c.answer);
      nodes.push(make("div", "sides",
        make("div", "", make("h4", "", "before"), marked(left, "del")),
        make("div", "", make("h4", "", "after"), marked(right, "ins"))));
    } else {
      nodes.push(make("h4", "", "answer"), block(c.answer || `(none: ${c.outcome})`));
    }
    const body = make("tbody", "", ...c.scores.map(([check, result, reason]) => {
      const head = make("th", "", visible(check));
      head.scope = "row";
      return make("tr", "", head, make("td", "", pill(result)), make("td", "", visible(reason)));
    }));
    nodes.push(make("h4", "", "checks"), make("table", "checks", body));
    return nodes;
  }

  function distinct(values) {
    return [...new Set(values)].sort((a, b) => a.localeCompare(b));
  }

  function start() {
    for (const c of data.cases) {
      c.text = [c.id, c.category, c.answer, c.before || "", c.why, ...c.inputs.map((item) => item[1])].join("\n").toLowerCase();
    }
    const filled = STATES.map(([name, label, test]) => [name, label, data.cases.filter(test).length]);
    options(state, filled.filter(([name, , number]) => number || name === "all").map(([name, label, number]) => [name, `${label} (${number})`]));
    state.value = ["broken", "attention", "all"].find((name) => filled.some(([other, , number]) => other === name && (number || name === "all")));
    options(category, [["", "all"], ...distinct(data.cases.map((c) => c.category)).map((name) => [name, name])]);
    options(slice, [["", "all"], ...distinct(data.cases.flatMap((c) => c.tags)).map((name) => [name, name])]);
    if (prompt) options(prompt, [["", "all"], ...data.names.map((name, index) => [String(index), name])]);
    let wait = 0;
    search.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(refresh, 120); });
    for (const box of [state, category, slice, prompt]) box?.addEventListener("change", refresh);
    at("filters").addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
    document.addEventListener("keydown", keys);
    refresh();
  }

  function keys(event) {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (event.key === "Escape") { list.focus(); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const inList = event.target === list;
    if (event.key === "/") search.focus();
    else if (event.key === "j" || (inList && event.key === "ArrowDown")) select(selected + 1, true);
    else if (event.key === "k" || (inList && event.key === "ArrowUp")) select(selected - 1, true);
    else if (inList && event.key === "Home") select(0, true);
    else if (inList && event.key === "End") select(found.length - 1, true);
    else return;
    event.preventDefault();
  }

  start();
})();
