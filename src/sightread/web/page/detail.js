// One picture, large: where the evidence is, the best others of its token, its captions, and who chose it.

import { $, all, chips, counted, faint, fixed, h } from "./dom.js";
import { latest } from "./server.js";
import { about, state, write } from "./state.js";
import { source, tile, vokenizer } from "./thumbnails.js";

export const KINDS = { grounded: "grounded type", other: "not grounded", word: "word", stop: "stop word or sign" };
const NOTHING_LOST = 0.02; // of a score

export const shown = { strips: [], found: [] }; // the last answers, of which one is looked at

export function choose(of, token, row) {
  Object.assign(state, { of, token, row });
  write();
  open();
}

export function close() {
  const from = $(".token[aria-expanded=true], #found [aria-expanded=true]");
  Object.assign(state, { of: null, token: null, row: null });
  $("#detail").hidden = true;
  mark();
  write();
  from?.focus();
}

export function open() {
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
