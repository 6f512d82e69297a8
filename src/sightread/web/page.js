// The page. All that is seen follows from the address, whose part behind the # never leaves the browser.

const TABS = ["tokens", "pictures", "probes"];
const KINDS = { grounded: "grounded type", other: "not grounded", word: "word", stop: "stop word or sign" };
const TYPING = 200; // milliseconds until what is typed is asked for
const NOTHING_LOST = 0.02; // of a score

const state = {}; // what `read` takes from the address and `write` puts there
const shown = { strips: [], found: [], rows: [] }; // the last answers
let about; // what the server has

// ── small things

const $ = (selector) => document.querySelector(selector);
const all = (selector) => document.querySelectorAll(selector);
const fixed = (number, digits = 2) => number.toFixed(digits).replace("-", "−");
const counted = (number) => number.toLocaleString("en");
const faint = (...words) => h("p", { className: "faint" }, ...words);

function h(tag, { aria = {}, data = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  Object.assign(element.dataset, data);
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

function say(words, aloud = true) { // to all, or to those alone who listen to the page
  $("#status").className = aloud ? "" : "quiet";
  $("#status").textContent = words;
  clearTimeout(say.until);
  if (aloud) say.until = setTimeout(() => say("", false), 5000);
}

function soon(work) {
  clearTimeout(soon.until);
  soon.until = setTimeout(work, TYPING);
}

// ── the server

async function ask(name, question, signal) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`/api/${name}`, { method: "POST", headers, body: JSON.stringify(question), signal });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Error(error ?? `the server answered ${answer.status}`);
}

// Of several questions of a name only the last is answered.
const asking = {};
async function latest(name, question, use, { fail = say, place = $("main"), as = "json" } = {}) {
  asking[name]?.abort();
  const mine = (asking[name] = new AbortController());
  place.classList.add("busy");
  let answer;
  try {
    answer = await (await ask(name, question, mine.signal))[as]();
  } catch (error) {
    if (asking[name] !== mine) return;
    fail(error instanceof TypeError ? "the server does not answer; is it still running?" : error.message);
  }
  if (asking[name] !== mine) return;
  place.classList.remove("busy");
  if (answer !== undefined) use(answer);
}

function forget(name) {
  asking[name]?.abort();
  asking[name] = null;
  $("main").classList.remove("busy");
  return [];
}

const vokenizer = (name) => about.vokenizers.find((one) => one.name === name);
const source = (name, row, size) => `/pictures/${vokenizer(name).gallery}/${row}/${size}.jpg`;

function thumbnail(name, picture, alt) {
  const image = h("img", { src: source(name, picture.row, "small"), alt, width: 96, height: 96, loading: "lazy" });
  return [h("span", { className: "frame" }, image), h("span", { className: "score" }, fixed(picture.score))];
}

function tile(name, picture, click) {
  const aria = { expanded: false, controls: "detail", label: `${picture.id}, score ${fixed(picture.score)}` };
  const button = h("button", { type: "button", aria, data: { row: picture.row } }, thumbnail(name, picture, ""));
  button.addEventListener("click", click);
  return h("li", {}, button);
}

function chips(fieldset, type, values, chosen, change, labels = {}) {
  const boxes = values.map((value) => {
    const input = h("input", { type, name: fieldset.id, value, checked: chosen.includes(value) });
    input.addEventListener("change", () => {
      const checked = [...fieldset.querySelectorAll(":checked")].map((one) => one.value);
      if (checked.length) change(checked);
      else input.checked = true; // one at least
    });
    return h("label", { className: "chip" }, input, h("span", {}, labels[value] ?? value));
  });
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...boxes);
}

// ── the address

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const names = about.vokenizers.map((one) => one.name);
  const encoders = Object.keys(about.probes);
  const one = (key, among, otherwise = null) => (among.includes(given.get(key)) ? given.get(key) : otherwise);
  const number = (key) => (/^\d{1,9}$/.test(given.get(key)) ? Number(given.get(key)) : null);
  const text = (key, otherwise) => (given.get(key) ?? otherwise).slice(0, about.maxText);
  const on = names.filter((name) => given.getAll("on").includes(name));
  Object.assign(state, {
    tab: one("tab", TABS, "tokens"),
    text: text("text", about.examples[0]),
    on: on.length ? on : names.slice(0, 2),
    least: Math.min(Math.max(Number(given.get("least")) || 0, 0), 1),
    query: text("query", about.examples[0]),
    by: one("by", names, names[0]),
    of: one("of", names),
    token: number("token"),
    row: number("row"),
    evidence: given.has("evidence"),
    first: one("first", encoders, encoders[0]),
    second: one("second", encoders, encoders[1]),
    probe: given.get("probe"),
    kind: one("kind", ["all", "first", "second", "equal"], "all"),
  });
}

function write(again = "replaceState") {
  const { tab, text, on, least, query, by, of, token, row, evidence, first, second, probe, kind } = state;
  const kept = {
    tokens: { text, on, least: least || null, of, token, row, evidence: evidence ? "1" : null },
    pictures: { tab, query, by, of, row },
    probes: { tab, first, second, probe, kind },
  }[tab];
  const pairs = Object.entries(kept).flatMap(([key, value]) => [value].flat().map((one) => [key, one]));
  const address = new URLSearchParams(pairs.filter(([, value]) => value !== null && value !== undefined));
  history[again](null, "", `#${address}`);
}

// ── tokens

function askTokens() {
  const use = (strips) => {
    shown.strips = strips;
    drawTokens();
    if (state.of !== null) open();
  };
  if (state.text.trim()) latest("vokens", { text: state.text, vokenizers: state.on }, use);
  else use(forget("vokens"));
}

function drawTokens() {
  const { strips } = shown;
  $("#strips").replaceChildren(...strips.map(({ vokenizer: name, tokens }) => {
    const title = h("h2", {}, name, h("small", {}, `${counted(vokenizer(name).pictures)} pictures`));
    const list = h("ol", { className: "strip" }, tokens.map((token, i) => h("li", {}, drawToken(name, token, i))));
    list.addEventListener("keydown", (event) => walk(event, list));
    return h("article", { className: "card", aria: { label: name } }, title, list);
  }));
  const kinds = Object.keys(KINDS).filter((kind) => strips.some(({ tokens }) => tokens.some((t) => t.kind === kind)));
  const unknown = about.grounding ? "" : "Which words are grounded nobody knows: start the page with --captions.";
  const legend = kinds.map((kind) => h("span", { className: `kind ${kind}` }, KINDS[kind]));
  $("#legend").replaceChildren(...(strips.length ? [...legend, unknown] : []));
  for (const button of all(".actions button")) button.disabled = !strips.length;
  hideLow();
  say(strips.map((strip) => `${strip.tokens.length} tokens by ${strip.vokenizer}`).join(", "), false);
}

function drawToken(name, token, i) {
  const [best] = token.pictures;
  const data = { of: name, token: i, start: token.start, score: best.score };
  const aria = { expanded: false, controls: "detail" };
  const word = h("b", {}, h("span", { className: `kind ${token.kind}`, title: KINDS[token.kind] }, token.text));
  const properties = { type: "button", className: "token", tabIndex: i ? -1 : 0, aria, data };
  const button = h("button", properties, word, thumbnail(name, best, `picture ${best.id}`));
  button.addEventListener("click", () => choose(name, i, best.row));
  return button;
}

function hideLow() {
  $("#least").value = state.least;
  $("#least + output").textContent = state.least ? fixed(state.least) : "any";
  for (const button of all(".token")) button.classList.toggle("low", Number(button.dataset.score) < (state.least || -1));
}

// Arrows go from token to token, Tab leaves the strip.
function walk(event, list) {
  const buttons = [...list.querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  const next = buttons[{ ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key]];
  if (!next) return;
  event.preventDefault();
  for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
  next.focus();
  if (!$("#detail").hidden) next.click();
}

function download(kind) {
  const question = { text: state.text, vokenizers: state.on, least: state.least || -1 };
  latest(`strip.${kind}`, question, (file) => {
    const href = URL.createObjectURL(file);
    h("a", { href, download: `vokens.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  }, { as: "blob" });
}

// ── one picture, large

function choose(of, token, row) {
  Object.assign(state, { of, token, row });
  write();
  open();
}

function close() {
  const from = $(".token[aria-expanded=true], #found [aria-expanded=true]");
  Object.assign(state, { of: null, token: null, row: null });
  $("#detail").hidden = true;
  mark();
  write();
  from?.focus();
}

function open() {
  const inStrip = state.tab === "tokens";
  const token = inStrip ? shown.strips.find((strip) => strip.vokenizer === state.of)?.tokens[state.token] : null;
  const pictures = token?.pictures ?? (inStrip ? [] : shown.found);
  const picture = pictures.find((one) => one.row === state.row) ?? pictures[0];
  if (!picture) return close();
  state.row = picture.row;
  const shut = h("button", { type: "button", className: "close", aria: { label: "Close" }, textContent: "×" });
  shut.addEventListener("click", close);
  const subtitle = h("small", {}, [state.of, ...(token ? [KINDS[token.kind]] : [])].join(" · "));
  const image = h("img", { src: source(state.of, picture.row, "large"), alt: `picture ${picture.id}` });
  const large = h("div", { className: "large" }, image);
  const caption = h("figcaption", {}, h("span", {}, token ? picture.id : "score"), h("b", {}, fixed(picture.score)));
  const [captions, choosers] = [h("div"), h("div")];
  $("#detail").replaceChildren(
    h("div", { className: "head" }, h("h2", { id: "detail-title" }, token?.text ?? picture.id, subtitle), shut),
    h("figure", {}, large, caption),
    ...(token ? [...evidence(large), h("h3", {}, `The best ${pictures.length}`), best(pictures)] : []),
    captions,
    choosers,
  );
  $("#detail").hidden = false;
  $("#detail").scrollTop = 0;
  mark();
  fillCaptions(captions);
  fillChoosers(choosers);
}

function mark() {
  const chosen = [...all(".token")].find(({ dataset }) => dataset.of === state.of && dataset.token === `${state.token}`);
  for (const button of all(".token")) {
    button.setAttribute("aria-expanded", button === chosen);
    button.classList.toggle("same", chosen !== button && button.dataset.start === chosen?.dataset.start);
  }
  for (const tile of all("#found button, #detail .grid button")) {
    tile.setAttribute("aria-expanded", tile.dataset.row === `${state.row}`);
  }
}

function best(pictures) {
  const tiles = pictures.map((picture) => tile(state.of, picture, () => choose(state.of, state.token, picture.row)));
  return h("ol", { className: "grid" }, tiles);
}

function evidence(large) {
  const note = faint();
  const fieldset = h("fieldset", { id: "evidence" }, h("legend", { className: "hidden" }, "What is shown"));
  const look = () => {
    note.textContent = state.evidence ? "Covering one place after the other …" : "";
    large.querySelector(".heat")?.remove();
    if (state.evidence) fillEvidence(large, note);
  };
  chips(fieldset, "radio", ["picture", "evidence"], [state.evidence ? "evidence" : "picture"], ([value]) => {
    state.evidence = value === "evidence";
    write();
    look();
  }, { picture: "Picture", evidence: "Where the evidence is" });
  look();
  return [fieldset, note];
}

function fillEvidence(large, note) {
  const { of, row, text, token } = state;
  const use = ({ uri, loss }) => {
    if (!state.evidence || !note.isConnected) return;
    large.append(h("img", { className: "heat", src: uri, alt: "the picture, bright where the evidence is" }));
    note.textContent = loss < NOTHING_LOST
      ? "No one place matters: whichever is covered, the score stays."
      : `Bright is where the score falls if that place is covered, by up to ${fixed(loss)}.`;
  };
  const fail = (words) => (note.textContent = `No evidence to be seen: ${words}.`);
  latest("evidence", { vokenizer: of, row, text, token }, use, { fail, place: large });
}

function fillCaptions(place) {
  const fill = (part) => place.replaceChildren(h("h3", {}, "Captions"), part);
  if (!about.captions) return fill(faint("None are known: start the page with --captions."));
  latest("captions", { vokenizer: state.of, row: state.row }, ({ captions }) => {
    fill(captions.length ? h("ul", {}, captions.map((one) => h("li", {}, one))) : faint("This picture has none."));
  }, { place });
}

function fillChoosers(place) {
  const fill = (...parts) => place.replaceChildren(h("h3", {}, "Chosen by"), ...parts);
  const { corpus } = about;
  if (!corpus) return fill(faint("No voken corpus is here to look in: start the page with --corpus."));
  if (!vokenizer(state.of).lookedUp) return fill(faint(`Nobody knows: ${corpus} chose among other pictures.`));
  latest("choosers", { vokenizer: state.of, row: state.row }, ({ tokens, read, types, examples }) => {
    const share = read < 1 ? `the first ${Math.round(100 * read)} % of ` : "";
    const counts = types.map(([type, count]) => h("span", {}, type, " ", h("small", {}, counted(count))));
    const lines = examples.map(([before, token, after]) => h("li", {}, before, h("mark", {}, token), after));
    const total = faint(`${counted(tokens)} tokens of ${share}${corpus}`);
    fill(total, h("p", { className: "counts" }, counts), h("ul", { className: "quotes" }, lines));
  }, { place });
}

// ── pictures

function askPictures() {
  const use = (found) => {
    shown.found = found;
    const tiles = found.map((picture) => tile(state.by, picture, () => choose(state.by, null, picture.row)));
    $("#found").replaceChildren(...tiles);
    $("#found-note").hidden = !found.length;
    say(`${found.length} pictures`, false);
    if (state.of !== null) open();
  };
  if (state.query.trim()) latest("search", { text: state.query, vokenizer: state.by }, use);
  else use(forget("search"));
}

// ── probes

function askProbes(begin = 0) {
  const encoders = Object.keys(about.probes);
  const both = encoders.length > 1 ? about.probes[state.first].filter((p) => about.probes[state.second].includes(p)) : [];
  $("#probes-body").hidden = encoders.length < 2;
  $("#probes-note").hidden = encoders.length > 1;
  if (encoders.length < 2) return;
  if (!both.includes(state.probe)) state.probe = both[0] ?? null;
  for (const [id, values] of [["first", encoders], ["second", encoders], ["probe", both]]) {
    $(`#${id}`).replaceChildren(...values.map((value) => h("option", { value, selected: value === state[id] }, value)));
  }
  if (!both.length) return say("these two have answered no probe in common");
  const { first, second, probe: name, kind } = state;
  latest("compare", { first, second, name, kind, begin }, ({ rows, ...sums }) => {
    shown.rows = begin ? [...shown.rows, ...rows] : rows;
    drawProbes(sums);
  });
}

function drawProbes({ scores, counts }) {
  const names = [state.first, state.second];
  const interval = ({ low, high }) => h("small", {}, low === null ? "" : ` ${fixed(low)} to ${fixed(high)}`);
  $("#scores").replaceChildren(...scores.map((score, i) =>
    h("p", {}, h("b", {}, fixed(score.value, 3)), names[i], interval(score))));
  const words = { all: "all", first: `${names[0]} is better`, second: `${names[1]} is better`, equal: "no difference" };
  const labels = Object.fromEntries(Object.keys(words).map((kind) => [kind, `${words[kind]}, ${counted(counts[kind])}`]));
  if (!$("#kind").contains(document.activeElement)) {
    chips($("#kind"), "radio", Object.keys(words), [state.kind], ([kind]) => {
      state.kind = kind;
      write();
      askProbes();
    }, labels);
  }
  const headings = ["question", "right", ...names].map((name) => h("th", { scope: "col" }, name));
  $("#probes thead").replaceChildren(h("tr", {}, headings));
  $("#probes tbody").replaceChildren(...shown.rows.map(drawRow));
  $("#more").hidden = shown.rows.length >= counts[state.kind];
}

function drawRow({ item, against, gold, said, values, better }) {
  const written = (value) => (typeof value === "number" ? fixed(value) : value ?? "");
  const judged = (value) => (value >= 1 ? "right" : value > 0 ? "undecided" : "wrong");
  const question = h("td", {}, item, against ? h("small", {}, `not: ${against}`) : null);
  const answers = said.map((one, i) =>
    h("td", { className: better === ["first", "second"][i] ? "won" : "" }, one === null ? judged(values[i]) : written(one)));
  return h("tr", {}, question, h("td", {}, written(gold)), answers);
}

// ── all of it

function show() {
  for (const tab of TABS) {
    $(`#${tab}`).hidden = tab !== state.tab;
    $(`[data-tab=${tab}]`).setAttribute("aria-current", tab === state.tab ? "page" : "false");
  }
  $("#text").value = state.text;
  $("#query").value = state.query;
  if (state.of === null) $("#detail").hidden = true;
  const names = about.vokenizers.map((one) => one.name);
  $("#switch").hidden = $("#searched").hidden = names.length < 2;
  chips($("#switch"), "checkbox", names, state.on, (on) => {
    state.on = on;
    if (!on.includes(state.of)) close();
    write();
    askTokens();
  });
  chips($("#searched"), "radio", names, [state.by], ([by]) => {
    state.by = by;
    close();
    askPictures();
  });
  ({ tokens: askTokens, pictures: askPictures, probes: askProbes })[state.tab]();
}

function typed(key, work) {
  const area = $(`#${key}`);
  area.maxLength = about.maxText;
  area.addEventListener("input", () => {
    state[key] = area.value;
    write();
    soon(work);
  });
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // a sentence is one line
    soon(work);
  });
}

function listen() {
  typed("text", askTokens);
  typed("query", askPictures);
  $("#least").addEventListener("input", () => {
    state.least = Number($("#least").value);
    write();
    hideLow();
  });
  for (const id of ["first", "second", "probe"]) {
    $(`#${id}`).addEventListener("change", () => {
      state[id] = $(`#${id}`).value;
      write();
      askProbes();
    });
  }
  $("#more").addEventListener("click", () => askProbes(shown.rows.length));
  $("#link").addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href).then(() => say("the link is copied"),
      () => say("the link stands in the address bar"));
  });
  for (const kind of ["png", "html"]) $(`#${kind}`).addEventListener("click", () => download(kind));
  for (const button of all("[data-tab]")) {
    button.addEventListener("click", () => {
      Object.assign(state, { tab: button.dataset.tab, of: null, token: null, row: null });
      write("pushState");
      show();
    });
  }
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !$("#detail").hidden) close();
  });
  addEventListener("popstate", () => {
    read();
    show();
  });
}

function offerExamples() {
  $("#examples").replaceChildren(...about.examples.map((text) => {
    const button = h("button", { type: "button" }, text);
    button.addEventListener("click", () => {
      state.text = $("#text").value = text;
      write();
      askTokens();
    });
    return button;
  }));
}

try {
  about = await (await fetch("/api/about")).json();
  read();
  offerExamples();
  listen();
  show();
} catch (error) {
  say(`the server does not answer (${error.message}); is it still running?`);
}
