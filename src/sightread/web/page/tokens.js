// A strip for each vokenizer: every token above its picture.

import { $, all, counted, fixed, h, say } from "./dom.js";
import { KINDS, choose, open, shown } from "./detail.js";
import { forget, latest } from "./server.js";
import { about, state, write } from "./state.js";
import { thumbnail, vokenizer } from "./thumbnails.js";

export function askTokens() {
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

export function hideLow() {
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

export function download(kind) {
  const question = { text: state.text, vokenizers: state.on, least: state.least || -1 };
  latest(`strip.${kind}`, question, (file) => {
    const href = URL.createObjectURL(file);
    h("a", { href, download: `vokens.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  }, { as: "blob" });
}
